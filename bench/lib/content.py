"""Bytes from a key: source-like text, binary-like records, incompressible bytes.

Every function here is pure: the same key and length always give the same bytes, so that an edit can be
undone by making the old content again, and a repeated region of an image costs nothing to remember.
Randomness is SHAKE-128 (several hundred MB/s, the same on every machine and Python); text is made by
indexing tables with it, which keeps the inner loop in C.
"""

import array
import functools
import hashlib
import itertools
import random
import sys

WORDS = """
account active adapter add address alloc apply archive arg array async attr auth average backend base batch begin
binary bind bit block body bool bounds branch bucket buffer build byte cache call cancel capacity chain change channel
char check child chunk class clean client clock clone close code color column command commit compare compile compute
config connect const context control convert copy count create current cursor data date debug decode default delete
delta depth descriptor detail device diff digest dir disable disk dispatch display done double draw driver drop dump
edge edit element emit empty enable encode end engine entry enum env error escape event exact exec exit expand expect
export expr extend extra factory fail fetch field file filter final find first fixed flag flush fold font format forward
frame free from full func future gap get glob global grant graph group grow guard handle hash head header heap height
hidden hint hook host index init inner input insert inspect instance int intern invalid invoke item iter job join key
kind label last layer layout leaf left len level limit line link list listen load local lock log lookup loop lower
main make manager map mark mask match max memory merge message meta method min mode model module monitor mount move
mutex name native nested network next node none normal notify null number object offset open operand option order
origin outer output owner pack packet page pair panel parent parse part patch path pattern peer pending phase pipe
pixel plan point pointer policy poll pool port position post prefix prepare previous print priority probe process
profile progress proto provider proxy publish pull push query queue quota range rate raw reader ready receive record
ref region register relative release reload remote remove rename render repeat replace report request reserve reset
resize resolve resource response result resume retry return reverse right role root rotate route rule run sample scan
schedule schema scope score script search second section seed segment select semaphore send sequence serial server
service session set setup shape share shift signal simple single size skip slice slot snapshot socket sort source span
spawn split stack stage start state static status step stop storage store stream string style submit suffix sum sweep
switch symbol sync system table tag target task temp template term test text thread threshold tick time timeout title
token total trace track transfer transform tree trigger trim type unit unlock update upload upper usage user util valid
value variant vector verify version view visit volume wait walk watch weight width window wire word work worker wrap
write writer yield zone
""".split()

# "~" stands for a line break with some indentation.
GLUE = """()~ ; . . . . . ,_ ,_ ,_ ( ( ( :: :: _=_ _=_ _=_self. _=_& :_ :_ :_& (& ). ). );~ );~ );~ ;~ ;~ )_{~ )_{~ }~~
_==_ _!=_ _<_ _>=_ _+_ _-_ _*_ _&&_ _||_ _=>_ _->_ -> [ ] ]_=_ <_ >_ >:: _as_ ;~return_ ;~let_ ;~let_ ;~let_mut_ ~if_ ~if_( ~for_
;~while_ ~match_ }~else_if_ ~fn_ ~pub_fn_ ~static_ ~const_ ~struct_ ;~use_ ~//_ ~//_ _ _ _ .await;~ )?;~ ?;~ .unwrap_or( .map( .iter(). ,_Some(
,_None)~ ~Ok( ~Err( (" ") ",_" ");~ '_ [' _in_ :_u32,~ :_usize,~ )_->_Vec< )_->_Option< )_->_Result< :_String,~ ;~self. ;~self. ;~this->""".split()

HEADERS = [
    "// Copyright the authors. All rights reserved.\n// Use of this source code is governed by the licence in the file\n"
    "// LICENCE at the root of this tree; see there for the whole text.\n\n",
    "/*\n * This file is part of the project. It is distributed in the hope that it will be\n * useful, but without any"
    " warranty; see the file COPYING for details.\n */\n\n#include <stddef.h>\n#include <string.h>\n\n",
    "#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\nimport os\nimport sys\nimport logging\n\n",
    "",
]

PROJECTS = 48


def rng(*key):
    """A seeded generator for small decisions (never for bulk bytes)."""
    return random.Random("/".join(map(str, key)))


def noise(key, length):
    """Incompressible bytes."""
    out = []
    step = 4 << 20
    for n in range(0, length, step):
        out.append(hashlib.shake_128(f"{key}#{n}".encode()).digest(min(step, length - n)))
    return b"".join(out)


def _shorts(key, count):
    values = array.array("H", noise(key, 2 * count))
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _identifier(r, words):
    parts = [r.choice(words) for _ in range(r.choice((1, 1, 2, 2, 2, 3)))]
    style = r.random()
    if style < 0.55:
        return "_".join(parts)
    if style < 0.75:
        return parts[0] + "".join(p.title() for p in parts[1:])
    if style < 0.9:
        return "".join(p.title() for p in parts)
    return "_".join(parts).upper()


@functools.lru_cache(maxsize=None)
def _glue():
    r = rng("glue")
    table = []
    for _ in range(256):
        piece = r.choice(GLUE).replace("_", " ")
        table.append(piece.replace("~", "\n" + "    " * r.choice((0, 1, 1, 2, 2, 3))).encode())
    return table


@functools.lru_cache(maxsize=PROJECTS)
def _vocabulary(project):
    """65,536 slots filled with identifiers by a Zipf-like law: part common to all, part of this project, some literals."""
    common, own = rng("common"), rng("project", project)
    shared = [_identifier(common, WORDS) for _ in range(6000)]
    words = own.sample(WORDS, 120)
    local = [_identifier(own, words) for _ in range(4000)]
    names = [n for pair in itertools.zip_longest(local, shared) for n in pair if n]
    weights = [1.0 / (rank + 6) ** 0.95 for rank in range(len(names))]
    table = [n.encode() for n in own.choices(names, weights, k=58000)]
    for _ in range(65536 - len(table)):
        kind = own.random()
        if kind < 0.45:
            table.append(b"%d" % int(own.paretovariate(0.5) % 100000))
        elif kind < 0.75:
            table.append(b"0x%08x" % own.getrandbits(32))
        else:
            table.append(b"%x" % own.getrandbits(64))
    own.shuffle(table)
    return table


def text(key, length, project=0, header=False):
    """Source-like text of exactly `length` bytes."""
    words, glue = _vocabulary(project % PROJECTS), _glue()
    parts = []
    if header:
        parts.append(HEADERS[project % len(HEADERS)].encode())
    size = sum(map(len, parts))
    turn = 0
    while size < length:
        count = min(max((length - size) // 11, 16), 1 << 18)
        slots = _shorts(f"{key}~{turn}", count)
        joints = noise(f"{key}^{turn}", count)
        piece = b"".join(itertools.chain.from_iterable(
            zip(map(words.__getitem__, slots), map(glue.__getitem__, joints))))
        parts.append(piece)
        size += len(piece)
        turn += 1
    return b"".join(parts)[:length]


@functools.lru_cache(maxsize=8)
def _opcodes(flavour):
    r = rng("opcodes", flavour)
    common = [bytes(r.choice((0, 0, 0x48, 0x89, 0x8b, 0xff, 0xe8, 1, 2, 4, 8, r.getrandbits(8)))
                    for _ in range(r.choice((1, 2, 3, 3, 4, 5)))) for _ in range(3000)]
    table = []
    for _ in range(65536):
        if r.random() < 0.72:
            table.append(common[int(len(common) * r.random() ** 2)])
        else:
            table.append(r.getrandbits(24).to_bytes(3, "little") + b"\0" * r.choice((0, 0, 1)))
    return table


def binary(key, length, flavour=0):
    """Bytes like those of object files and database pages: skewed, with some noise; zstd -1 takes about a third off."""
    table = _opcodes(flavour % 8)
    parts, size, turn = [], 0, 0
    while size < length:
        count = min(max((length - size) // 3, 16), 1 << 18)
        piece = b"".join(map(table.__getitem__, _shorts(f"{key}~{turn}", count)))
        parts.append(piece)
        size += len(piece)
        turn += 1
    return b"".join(parts)[:length]
