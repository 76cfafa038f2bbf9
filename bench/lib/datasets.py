"""The data sets: what is in them, how they are built, edited by 1 %, and brought back to what they were.

A tree set is a list of entries that follows from the seed alone; a file's bytes follow from its entry. So building
can be split over processes, and undoing an edit is building the touched entries again. Beside each set `NAME` lies
`NAME.state.json` with the recipe's version and the edit in force, if any.
"""

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import content

VERSION = 1
EPOCH = 1_700_000_000
MIB = 1 << 20


@dataclass(frozen=True)
class Entry:
    path: str
    kind: str  # text, binary, noise, symlink, hardlink
    size: int = 0
    project: int = 0
    mode: int = 0o644
    target: str = ""  # of a symlink or hard link
    mtime_ns: int = 0
    key: str = ""
    edit: int = 0  # content revision, 0 = as built


def entry_bytes(e):
    """The content of a regular file."""
    base = _plain(e.key, e.kind, e.size, e.project)
    if not e.edit:
        return base
    # A change as a person makes it: one to three places, a little out, a little more in.
    r = content.rng(e.key, "edit", e.edit)
    for place in range(r.choice((1, 1, 2, 3))):
        at = r.randrange(len(base) + 1)
        cut = r.choice((0, 0, r.randrange(200)))
        new = _plain(f"{e.key}+{e.edit}.{place}", e.kind, r.randrange(20, 400), e.project)
        base = base[:at] + new + base[at + cut:]
    return base


def _plain(key, kind, size, project):
    if kind == "text":
        return content.text(key, size, project, header=size > 600)
    if kind == "binary":
        return content.binary(key, size, project)
    return content.noise(key, size)


def _write(root, e):
    path = os.path.join(root, e.path)
    if e.kind == "symlink":
        os.symlink(e.target, path)
        os.utime(path, ns=(e.mtime_ns, e.mtime_ns), follow_symlinks=False)
        return
    if e.kind == "hardlink":
        os.link(os.path.join(root, e.target), path)
        return
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        data = memoryview(entry_bytes(e))
        while data:
            data = data[os.write(fd, data):]
        os.fchmod(fd, e.mode)
        os.utime(fd, ns=(e.mtime_ns, e.mtime_ns))
    finally:
        os.close(fd)


def _write_all(root, entries):
    for e in entries:
        _write(root, e)


def write_entries(root, entries, jobs=2):
    """Regular files first, over processes and by project (so that each builds a vocabulary once), then links."""
    plain = sorted((e for e in entries if e.kind not in ("symlink", "hardlink")), key=lambda e: (e.project, e.path))
    if len(plain) < 200:
        _write_all(root, plain)
    else:
        with ProcessPoolExecutor(jobs) as pool:
            step = max(100, len(plain) // 200)
            parts = [plain[n:n + step] for n in range(0, len(plain), step)]
            list(pool.map(_write_all, [root] * len(parts), parts))
    _write_all(root, (e for e in entries if e.kind in ("symlink", "hardlink")))


class TreeSet:
    """Many files in a tree of projects."""

    def __init__(self, name, seed, files, dirs, mean, sigma, cap, other_kinds, links):
        self.name, self.seed, self.files, self.dirs = name, seed, files, dirs
        self.mean, self.sigma, self.cap = mean, sigma, cap
        self.other_kinds, self.links = other_kinds, links
        self.recipe = [VERSION, name, seed, files, dirs, mean, sigma, cap, other_kinds, links]

    def directories(self):
        """Directory paths, parents first, as (path, project)."""
        r = content.rng(self.seed, self.name, "dirs")
        projects = max(1, min(content.PROJECTS, self.dirs // 12))
        out, by_project, seen = [], [[] for _ in range(projects)], set()
        for n in range(projects):
            path = f"{r.choice(content.WORDS)}-{n:02}"
            out.append((path, n))
            by_project[n].append(path)
        seen.update(p for p, _ in out)
        while len(out) < self.dirs:
            n = int(projects * r.random() ** 1.5)
            parent = r.choice(by_project[n])
            if parent.count("/") > 7:
                continue
            path = f"{parent}/{r.choice(content.WORDS)}"
            if path in seen:
                path += f"{len(out)}"
            seen.add(path)
            out.append((path, n))
            by_project[n].append(path)
        return out

    def plan(self):
        """Every entry of the set as built."""
        r = content.rng(self.seed, self.name, "files")
        dirs = self.directories()
        draws = [min(r.lognormvariate(0, self.sigma), 120) for _ in range(self.files)]
        scale = self.files * self.mean / sum(draws)
        out = []
        for n, draw in enumerate(draws):
            folder, project = r.choice(dirs)
            size, kind, ending = min(int(draw * scale), self.cap), "text", r.choice((".rs", ".c", ".h", ".py", ".ts", ".md"))
            dice = r.random()
            if dice < self.other_kinds:
                kind, ending = (("noise", ".png") if dice < self.other_kinds * 0.5 else ("binary", ".o"))
            out.append(Entry(
                path=f"{folder}/{r.choice(content.WORDS)}_{n:06}{ending}", kind=kind, size=size, project=project,
                mode=r.choice((0o644,) * 17 + (0o755, 0o600, 0o664)), mtime_ns=_mtime(r),
                key=f"{self.seed}/{self.name}/{n}"))
        for n in range(self.links):
            folder, project = r.choice(dirs)
            to = r.choice(out[:self.files])
            target = os.path.relpath(to.path, folder) if n % 5 else f"/nowhere/{to.path}"
            out.append(Entry(path=f"{folder}/link_{n:04}", kind="symlink", target=target, project=project,
                             mtime_ns=_mtime(r)))
        for n in range(self.links // 2):
            folder, project = r.choice(dirs)
            to = out[n * 7 // 3 % self.files]
            out.append(Entry(path=f"{folder}/hard_{n:04}", kind="hardlink", target=to.path, project=project))
        return out

    def edited(self, n=1):
        """What edit `n` does to the plan: (removed paths, added or rewritten entries, what was there before)."""
        return edit_plan(self.plan(), [d for d, _ in self.directories()], 0.01, n, content.rng(self.seed, self.name, "edit", n))

    def build(self, root, jobs=2):
        os.makedirs(root)
        for path, _ in self.directories():
            os.mkdir(os.path.join(root, path))
        write_entries(root, self.plan(), jobs)
        self._settle(root)

    def edit(self, root, n=1):
        removed, new, _ = self.edited(n)
        for path in removed:
            os.unlink(os.path.join(root, path))
        write_entries(root, new)
        return f"{len(removed)} paths out, {len(new)} in or rewritten, {sum(e.size for e in new) / MIB:.1f} MiB"

    def revert(self, root, n=1):
        removed, new, before = self.edited(n)
        for e in new:
            if os.path.lexists(os.path.join(root, e.path)):
                os.unlink(os.path.join(root, e.path))
        for e in before:
            if os.path.lexists(os.path.join(root, e.path)):
                os.unlink(os.path.join(root, e.path))
        write_entries(root, before)
        self._settle(root)

    def _settle(self, root):
        """Directory times and modes, deepest first."""
        r = content.rng(self.seed, self.name, "dirtimes")
        for path, _ in reversed(self.directories()):
            when = _mtime(r)
            os.utime(os.path.join(root, path), ns=(when, when))
        os.utime(root, ns=(EPOCH * 10**9, EPOCH * 10**9))


def edit_plan(plan, dirs, share, n, r):
    """Of the plain files: 70 % of the share rewritten in places, 12 % added, 12 % removed, 6 % moved elsewhere."""
    linked = {e.target for e in plan if e.kind == "hardlink"}
    plain = [e for e in plan if e.kind in ("text", "binary", "noise") and e.path not in linked]
    count = max(4, int(len(plain) * share))
    touched = r.sample(plain, count)
    removed, new, before = [], [], []
    now = (EPOCH + 40_000_000 + n * 86400) * 10**9
    for k, e in enumerate(touched):
        dice, later = k / count, now + r.randrange(80_000 * 10**9)
        if dice < 0.70:
            new.append(replace(e, edit=e.edit + n, mtime_ns=later))
            before.append(e)
        elif dice < 0.82:
            name = f"{os.path.dirname(e.path)}/new{n}_{os.path.basename(e.path)}"
            new.append(replace(e, path=name, key=f"{e.key}new{n}", edit=0, mtime_ns=later))
        elif dice < 0.94:
            removed.append(e.path)
            before.append(e)
        else:
            removed.append(e.path)
            before.append(e)
            new.append(replace(e, path=f"{r.choice(dirs)}/moved{n}_{os.path.basename(e.path)}"))
    return removed, new, before


def _mtime(r):
    return EPOCH * 10**9 + r.randrange(30_000_000 * 10**9)


class ImageSet:
    """A disk image and a dump: long runs of text, records, noise, zeros and earlier regions again."""

    def __init__(self, name, seed, image_mib, dump_mib):
        self.name, self.seed, self.image_mib, self.dump_mib = name, seed, image_mib, dump_mib
        self.recipe = [VERSION, "shares 2", name, seed, image_mib, dump_mib]

    def regions(self, which, mib):
        """[(kind, length, key)], 4 KiB aligned, adding up to `mib` MiB."""
        r = content.rng(self.seed, self.name, which)
        left, out = mib * MIB, []
        while left:
            length = min(left, 4096 * max(16, int(r.lognormvariate(6.2, 1.0))), 32 * MIB)
            dice = r.random()
            kind = ("text" if dice < 0.47 else "binary" if dice < 0.61 else "noise" if dice < 0.77 else
                    "zero" if dice < 0.90 else "again")
            again = [x for x in out if x[0] not in ("zero",) and MIB <= x[1] <= left]
            if kind == "again" and again:
                out.append(r.choice(again))
            else:
                out.append(("text" if kind == "again" else kind, length, f"{self.seed}/{self.name}/{which}/{len(out)}"))
            left -= out[-1][1]
        return out

    def files(self):
        yield "disk.img", self.regions("image", self.image_mib)
        yield "dump.sql", self.regions("dump", self.dump_mib)
        for n in range(8):
            yield f"side-{n}.log", [("text", MIB // 2 + n * 4099, f"{self.seed}/{self.name}/side{n}")]

    def build(self, root, jobs=2):
        os.makedirs(root)
        r = content.rng(self.seed, self.name, "times")
        with ProcessPoolExecutor(jobs) as pool:
            work = []
            for name, regions in self.files():
                path, at = os.path.join(root, name), 0
                with open(path, "wb") as f:
                    f.truncate(sum(length for _, length, _ in regions))
                for region in regions:
                    work.append(pool.submit(_write_region, path, at, region))
                    at += region[1]
            for done in work:
                done.result()
        for name, _ in self.files():
            when = _mtime(r)
            os.utime(os.path.join(root, name), ns=(when, when))
        os.utime(root, ns=(EPOCH * 10**9, EPOCH * 10**9))

    def edit(self, root, n=1):
        """Rewrites 65 runs of 64 KiB of the image and puts 37 bytes in front of the dump; what was there is kept beside the set."""
        undo = root + ".undo"
        os.makedirs(undo)
        r = content.rng(self.seed, self.name, "edit", n)
        image = os.path.join(root, "disk.img")
        size, runs = os.path.getsize(image), []
        with open(image, "r+b") as f, open(os.path.join(undo, "runs"), "wb") as keep:
            for k in range(65):
                at = r.randrange(size // 4096 - 16) * 4096
                runs.append(at)
                f.seek(at)
                keep.write(f.read(65536))
                f.seek(at)
                f.write(content.text(f"{self.seed}/{self.name}/edit{n}/{k}", 65536, k) if k % 3 else
                        content.noise(f"{self.seed}/{self.name}/edit{n}/{k}", 65536))
        dump = os.path.join(root, "dump.sql")
        os.rename(dump, os.path.join(undo, "dump.sql"))
        with open(os.path.join(undo, "dump.sql"), "rb") as old, open(dump, "wb") as new:
            new.write(b"-- thirty-seven bytes put before it\n".rjust(37, b"-"))
            shutil.copyfileobj(old, new, 8 * MIB)
        later = (EPOCH + 40_000_000 + n * 86400) * 10**9 + 123_456_789
        os.utime(image, ns=(later, later))
        os.utime(dump, ns=(later, later))
        with open(os.path.join(undo, "where.json"), "w") as f:
            json.dump(runs, f)
        return "65 runs of 64 KiB rewritten, 37 bytes put in front of dump.sql"

    def revert(self, root, n=1):
        undo = root + ".undo"
        with open(os.path.join(undo, "where.json")) as f:
            runs = json.load(f)
        image = os.path.join(root, "disk.img")
        with open(image, "r+b") as f, open(os.path.join(undo, "runs"), "rb") as keep:
            blocks = [keep.read(65536) for _ in runs]
            for at, block in reversed(list(zip(runs, blocks))):
                f.seek(at)
                f.write(block)
        os.rename(os.path.join(undo, "dump.sql"), os.path.join(root, "dump.sql"))
        r = content.rng(self.seed, self.name, "times")
        when = _mtime(r)  # the image is the first file
        os.utime(image, ns=(when, when))
        os.utime(root, ns=(EPOCH * 10**9, EPOCH * 10**9))
        shutil.rmtree(undo)


def _write_region(path, at, region):
    kind, length, key = region
    with open(path, "r+b") as f:
        f.seek(at)
        project = sum(key.encode())
        step = 8 * MIB
        for n in range(0, length, step):
            part = min(step, length - n)
            if kind == "zero":
                f.write(bytes(part))
            elif kind == "text":
                f.write(content.text(f"{key}:{n}", part, project))
            elif kind == "binary":
                f.write(content.binary(f"{key}:{n}", part, project))
            else:
                f.write(content.noise(f"{key}:{n}", part))


class NoiseSet:
    """Incompressible files of one size."""

    def __init__(self, name, seed, files, mib):
        self.name, self.seed, self.count, self.mib = name, seed, files, mib
        self.recipe = [VERSION, name, seed, files, mib]

    def build(self, root, jobs=2):
        os.makedirs(root)
        each = self.mib * MIB // self.count
        entries = [Entry(f"part-{n:02}.bin", "noise", each, mtime_ns=(EPOCH + n) * 10**9 + 77, key=f"{self.seed}/{self.name}/{n}")
                   for n in range(self.count)]
        with ProcessPoolExecutor(jobs) as pool:
            list(pool.map(_write, [root] * len(entries), entries))
        os.utime(root, ns=(EPOCH * 10**9, EPOCH * 10**9))


def catalogue(seed=1, scale=1.0):
    """The sets by name. `scale` shrinks them for a quick look; figures of different scales do not compare."""
    n = lambda full: max(1, int(full * scale))
    return {
        "small": TreeSet("small", seed, n(50_000), n(3_000), 10_486, 1.45, 2 * MIB, 0.06, n(400)),
        "large": ImageSet("large", seed, n(4096), n(512)),
        "random": NoiseSet("random", seed, 20, n(2048)),
        "tiny": TreeSet("tiny", seed, n(300_000), n(6_000), 420, 0.75, 4096, 0.0, n(200)),
    }


def ensure(dataset, scratch, log=print):
    """The path of the set under `scratch`, built or brought back to its base state as needed."""
    root = os.path.join(scratch, dataset.name)
    state = _state(root)
    if state and state["recipe"] == json.loads(json.dumps(dataset.recipe)) and state["whole"]:
        if state["edit"]:
            try:
                revert(dataset, root)
                return root
            except OSError as error:
                log(f"{dataset.name}: cannot undo the edit ({error}); building again")
        else:
            return root
    for old in (root, root + ".undo"):
        if os.path.exists(old):
            shutil.rmtree(old)
    log(f"{dataset.name}: building")
    os.makedirs(scratch, exist_ok=True)
    dataset.build(root)
    _set_state(dataset, root, None)
    return root


def edit(dataset, root, n=1):
    _set_state(dataset, root, n)
    return dataset.edit(root, n)


def revert(dataset, root):
    dataset.revert(root, _state(root)["edit"])
    _set_state(dataset, root, None)


def _state(root):
    try:
        with open(root + ".state.json") as f:
            return json.load(f)
    except (OSError, ValueError):
        return None


def _set_state(dataset, root, n):
    with open(root + ".state.json", "w") as f:
        json.dump({"recipe": dataset.recipe, "edit": n, "whole": True}, f)
