"""Compares a restored tree with its source, knowing nothing of any backup tool.

    compare.py manifest TREE FILE    writes what TREE holds
    compare.py check FILE TREE       prints a JSON list of differences (the first few) and their count

Looked at: names, kinds, content (SHA-256), size, mode, mtime in ns (files, directories, symlinks), link targets and
which names are one file. Not the root directory itself: tools disagree on whether it belongs to a backup.
"""

import hashlib
import json
import os
import pickle
import stat
import sys


def facts(root):
    """{relative path: what must come back}"""
    root = os.fsencode(root)
    out, groups = {}, {}
    buffer = bytearray(1 << 20)
    stack = [b""]
    while stack:
        at = stack.pop()
        with os.scandir(os.path.join(root, at)) as names:
            for item in names:
                path = os.path.join(at, item.name)
                info = item.stat(follow_symlinks=False)
                fact = {"mtime": info.st_mtime_ns}
                if stat.S_ISLNK(info.st_mode):
                    fact.update(kind="symlink", target=os.readlink(item.path))
                elif stat.S_ISDIR(info.st_mode):
                    fact.update(kind="directory", mode=stat.S_IMODE(info.st_mode))
                    stack.append(path)
                elif stat.S_ISREG(info.st_mode):
                    fact.update(kind="file", mode=stat.S_IMODE(info.st_mode), size=info.st_size, content=_hash(item.path, buffer))
                    if info.st_nlink > 1:
                        groups.setdefault((info.st_dev, info.st_ino), []).append(path)
                else:
                    fact.update(kind="other", mode=info.st_mode)
                out[path] = fact
    for names in groups.values():
        if len(names) > 1:
            for path in names:
                out[path]["same file as"] = sorted(names)
    return out


def _hash(path, buffer):
    digest = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY)
    try:
        while got := os.readv(fd, [buffer]):
            digest.update(memoryview(buffer)[:got])
    finally:
        os.close(fd)
    return digest.digest()


def differences(want, got):
    for path in sorted(want.keys() | got.keys()):
        name = os.fsdecode(path)
        if path not in got:
            yield f"{name}: missing"
        elif path not in want:
            yield f"{name}: not in the source"
        elif want[path] != got[path]:
            a, b = want[path], got[path]
            what = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
            yield f"{name} ({a['kind']}): {', '.join(what)}"


def main():
    if sys.argv[1] == "manifest":
        with open(sys.argv[3], "wb") as f:
            pickle.dump(facts(sys.argv[2]), f, protocol=5)
    else:
        with open(sys.argv[2], "rb") as f:
            want = pickle.load(f)
        found = list(differences(want, facts(sys.argv[3])))
        print(json.dumps({"entries": len(want), "count": len(found), "first": found[:5]}))


if __name__ == "__main__":
    main()
