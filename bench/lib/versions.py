"""A source tree in daily versions, and the commands that keep them, as `format_trial` and `lifecycle` need them."""

import os
from dataclasses import replace

import content
import datasets
import measure

MIB = 1 << 20


class Tree:
    """A source tree that is worked on: edits, files added, removed and moved, now and then a whole directory moved."""

    title = "source tree"

    def __init__(self, seed, scale):
        self.set = datasets.TreeSet("trial", seed, int(10_000 * scale), int(600 * scale), 10_486, 1.45, 2 * MIB, 0.06, int(80 * scale))
        self.seed = seed

    def build(self, root):
        self.set.build(root)
        self.plan = self.set.plan()

    def day(self, root, n, share=None):
        """Applies day `n`; returns the bytes of the files that are new or changed, moved ones not counted. A `share` of
        the files is touched, at least four (default: 0.5 to 1 %, drawn)."""
        r = content.rng(self.seed, "trial", "day", n)
        drawn = r.uniform(0.005, 0.010)
        share = drawn if share is None else share
        folders = sorted({os.path.dirname(e.path) for e in self.plan})
        removed, new, before = datasets.edit_plan(self.plan, folders, share, n, r)
        for path in removed:
            os.unlink(os.path.join(root, path))
        datasets.write_entries(root, new)
        gone = {e.path for e in before}
        self.plan = [e for e in self.plan if e.path not in gone] + new
        old = {(e.key, e.edit, e.size) for e in before}
        changed = sum(e.size for e in new if (e.key, e.edit, e.size) not in old)
        if n % 4 == 0:
            self._move_directory(root, r)
        return changed

    def _move_directory(self, root, r):
        """Renames a directory of some twenty files or so within its parent."""
        tops = {}
        for e in self.plan:
            parts = os.path.dirname(e.path).split("/")
            for k in range(2, len(parts) + 1):
                tops["/".join(parts[:k])] = tops.get("/".join(parts[:k]), 0) + 1
        fit = sorted(path for path, count in tops.items() if 10 <= count <= 60)
        if not fit:
            return
        path = r.choice(fit)
        name = f"{path}_m{r.randrange(1000)}"
        if os.path.exists(os.path.join(root, name)):
            return
        os.rename(os.path.join(root, path), os.path.join(root, name))
        shift = lambda p: name + p[len(path):] if p.startswith(path + "/") else p
        self.plan = [replace(e, path=shift(e.path), target=shift(e.target) if e.kind == "hardlink" else e.target) for e in self.plan]

    def second_host(self, root):
        """The same tree elsewhere: every file written anew (other times and inodes), one in a hundred with other content."""
        r = content.rng(self.seed, "trial", "second host")
        os.makedirs(root)
        late, changed, entries = (datasets.EPOCH + 60_000_000) * 10**9, 0, []
        for e in self.plan:
            e = replace(e, mtime_ns=late + r.randrange(10**15))
            if e.kind in ("text", "binary", "noise") and r.random() < 0.01:
                e = replace(e, edit=e.edit + 1000)
                changed += e.size
            os.makedirs(os.path.dirname(os.path.join(root, e.path)), exist_ok=True)
            entries.append(e)
        datasets.write_entries(root, entries)
        return changed


def call(tool, argv):
    argv, folder = argv if isinstance(argv, tuple) else (argv, "/")
    return measure.run(argv, measure.environment(f"{tool.home}/home", tool.env()), f"{tool.home}/log", folder)


def start(tool, home):
    tool.place(home)
    os.makedirs(home)
    tool.prepare(lambda argv: call(tool, argv))
    try:
        call(tool, tool.init())
    except measure.Failed:
        if not tool.retry_init():
            raise
        measure.clear(tool.repository)
        call(tool, tool.init())
