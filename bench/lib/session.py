"""One data set, several tools, several runs: every operation is done by all tools in turn before the next one begins."""

import filecmp
import json
import os
import signal
import subprocess
import sys
import time

import compare  # noqa: F401  (named here so that a broken comparison is noticed before hours of measuring)
import datasets
import measure

OPS = ["init", "backup", "unchanged", "edit", "list", "ls", "restore", "restore_file", "check", "mount_ls", "mount_copy", "mount_grep",
       "passphrase"]
NO_EDIT = {"random"}


class Session:
    """Results are samples[operation][tool] = [{"wall", "cpu", "memory", "size"?}, ...]; problems is a list of texts."""

    def __init__(self, dataset, tools, options, log=print):
        self.dataset, self.tools, self.options, self.log = dataset, tools, options, log
        self.work = os.path.join(options.scratch, "work")
        self.samples, self.problems, self.edited_with = {}, [], None
        self.broken = set()

    def run(self):
        self.source = datasets.ensure(self.dataset, self.options.scratch, self.log)
        self.bytes = measure.size(self.source)
        in_memory = self.dataset.name != "large" and measure.roomy(self.options.restore_to, self.bytes)
        self.restores = os.path.join(self.options.restore_to if in_memory else self.work, f"holdbench-{os.getpid()}")
        self.restores_to = "memory" if in_memory else "disk"
        try:
            for turn in range(self.options.runs):
                self._round(turn)
        finally:
            measure.clear(self.restores)
            measure.clear(self.work)
            if self.edited_with:
                datasets.revert(self.dataset, self.source)
                self.edited_with = None
        return self

    def _round(self, turn):
        measure.clear(self.work)
        os.makedirs(self.work)
        self.broken = set()
        # Another order each round, so that no tool always follows the same other one.
        order = self.tools[turn % len(self.tools):] + self.tools[:turn % len(self.tools)]
        for tool in order:
            tool.place(f"{self.work}/{tool.name}")
            tool.source = self.source
            measure.clear(tool.repository)
        for op in OPS:
            if op not in self.options.ops and op not in ("init", "backup"):
                continue
            if op == "edit":
                if self.dataset.name in NO_EDIT:
                    continue
                self.edited_with = 1
                self.log(f"{self.dataset.name}: edit: {datasets.edit(self.dataset, self.source, 1)}")
            if op in ("restore", "restore_file", "mount_copy"):
                self._manifest()
                self.file = pick_file(self.source, self.dataset.name)
            for tool in order:
                if tool.name not in self.broken:
                    self._one(op, tool)
        if self.edited_with:
            datasets.revert(self.dataset, self.source)
            self.edited_with = None

    def _one(self, op, tool):
        try:
            if op == "passphrase":
                result = self._passphrase(tool)
            else:
                result = getattr(self, "_" + op, self._plain)(tool, op)
        except measure.Failed as problem:
            self._problem(f"{self.dataset.name}, {op}, {tool.name}: {problem}")
            if op in ("init", "backup"):
                self.broken.add(tool.name)
            return
        if result:
            self.samples.setdefault(op, {}).setdefault(tool.name, []).append(result)
            self.log(f"{self.dataset.name:7} {op:13} {tool.name:9} {result['wall']:8.2f} s wall {result['cpu']:8.2f} s cpu "
                     f"{result['memory'] / 2**20:6.0f} MiB, others {result['others']:.1f} cores" + (f"  repository {result['size'] / 2**20:.1f} MiB" if "size" in result else ""))

    def _problem(self, text):
        self.problems.append(text)
        self.log(f"PROBLEM: {text}")

    def _command(self, tool, command, env=None, out=None):
        argv, folder = command if isinstance(command, tuple) else (command, "/")
        os.sync()
        measure.wait_idle(self.options.wait_idle)
        result = measure.run(argv, measure.environment(f"{tool.home}/home", env or tool.env()), f"{tool.home}/log", folder, out)
        self.last_output = result.pop("stdout")
        return result

    # One method for each operation that is more than one command; the others are `_plain`.

    def _plain(self, tool, op):
        measure.warm(tool.repository)
        result = self._command(tool, getattr(tool, op)())
        if op == "ls":
            with open(self.last_output, "rb") as f:
                lines = sum(1 for _ in f)
            want = sum(len(d) + len(n) for _, d, n in os.walk(self.source))
            if lines < want:
                self._problem(f"{self.dataset.name}, ls, {tool.name}: {lines} lines for {want} entries")
        return result

    def _init(self, tool, op):
        os.makedirs(tool.home)
        tool.prepare(lambda argv: self._command(tool, argv))
        try:
            return self._command(tool, tool.init())
        except measure.Failed:
            if not tool.retry_init():
                raise
            measure.clear(tool.repository)
            return self._command(tool, tool.init())

    def _backup(self, tool, op):
        measure.warm(self.source)
        result = self._command(tool, tool.backup())
        result["size"] = measure.size(tool.repository)
        return result

    _unchanged = _edit = _backup

    def _restore(self, tool, op):
        measure.warm(tool.repository)
        target = f"{self.restores}/{tool.name}"
        measure.clear(target)
        os.makedirs(target)
        try:
            result = self._command(tool, tool.restore(target))
            if self.options.verify:
                self._compare(tool, "restore", tool.restored(target), result)
            return result
        finally:
            measure.clear(target)

    def _compare(self, tool, op, got, result):
        """Holds the tree at `got` against the source."""
        done = subprocess.run([sys.executable, compare.__file__, "check", f"{self.work}/manifest", got],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            self._problem(f"{self.dataset.name}, {op}, {tool.name}: cannot compare: {done.stderr.strip().splitlines()[-1]}")
            return
        found = json.loads(done.stdout)
        result["differences"] = found["count"]
        if found["count"]:
            self._problem(f"{self.dataset.name}, {op}, {tool.name}: {found['count']} of {found['entries']} entries "
                          f"differ, as {'; '.join(found['first'])}")

    def _restore_file(self, tool, op):
        measure.warm(tool.repository)
        target, out = f"{self.restores}/{tool.name}-file", f"{self.restores}/{tool.name}-out"
        for old in (target, out):
            measure.clear(old) if os.path.isdir(old) else None
        os.makedirs(target)
        try:
            result = self._command(tool, tool.restore_file(target, self.file), out=out)
            found = [os.path.join(at, n) for at, _, names in os.walk(target) for n in names] or [out]
            if len(found) != 1 or not filecmp.cmp(found[0], f"{self.source}/{self.file}", shallow=False):
                self._problem(f"{self.dataset.name}, restore_file, {tool.name}: not the file asked for")
            return result
        finally:
            measure.clear(target)
            if os.path.exists(out):
                os.unlink(out)

    def _check(self, tool, op):
        measure.warm(tool.repository)
        return self._command(tool, tool.check(), out="/dev/null")

    def _mount_ls(self, tool, op):
        return self._mounted(tool, lambda shown, _: ["ls", "-lR", shown])

    def _mount_grep(self, tool, op):
        # Found in some files or in none (1): both are fine.
        return self._mounted(tool, lambda shown, _: ["sh", "-c", 'grep -rc zebra "$0" || [ $? = 1 ]', shown])

    def _mount_copy(self, tool, op):
        return self._mounted(tool, lambda shown, target: ["cp", "-a", shown, target])

    def _mounted(self, tool, command):
        """Times a command over the newest snapshot, mounted afresh. The memory is that of the mount."""
        place, target = f"{self.work}/{tool.name}-mount", f"{self.restores}/{tool.name}-copy"
        os.makedirs(place, exist_ok=True)
        argv, shown = tool.mount(place), tool.mounted(place)
        if not argv:
            return None
        measure.warm(tool.repository)
        env = measure.environment(f"{tool.home}/home", tool.env())
        with open(f"{tool.home}/mount-log", "wb") as log:
            mount = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            while not os.path.isdir(shown):
                if mount.poll() is not None or time.monotonic() > end:
                    with open(f"{tool.home}/mount-log", errors="replace") as log:
                        raise measure.Failed(f"{' '.join(argv)}: no mount: {log.read()[-300:].strip()}")
                time.sleep(0.05)
            os.makedirs(target)
            # Of `cp`, the clock and the processor are ours, too: the mount's share is in the others'.
            result = self._command(tool, command(shown, target), out="/dev/null")
            with open(f"/proc/{mount.pid}/status") as status:
                result["memory"] = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
            if self.options.verify and os.listdir(target):
                self._compare(tool, "mount_copy", f"{target}/{os.path.basename(shown)}", result)
            return result
        finally:
            mount.send_signal(signal.SIGINT)
            try:
                mount.wait(20)
            except subprocess.TimeoutExpired:
                mount.kill()
                mount.wait()
            subprocess.run(["umount", "-l", place], stderr=subprocess.DEVNULL)
            measure.clear(target)

    def _passphrase(self, tool):
        """Opening cost: listing a repository of one small snapshot, opened with a passphrase."""
        if tool.passphrase is None:
            return None
        keep = tool.home, tool.source, tool.backups
        few = f"{self.work}/few"
        if not os.path.exists(few):
            os.makedirs(few)
            with open(f"{few}/note", "w") as f:
                f.write("one small file\n")
        tool.place(f"{keep[0]}-passphrase")
        tool.source = few
        tool.by_passphrase = True
        try:
            os.makedirs(tool.home)
            self._command(tool, tool.init())
            self._command(tool, tool.backup())
            return self._command(tool, tool.passphrase())
        finally:
            tool.by_passphrase = False
            tool.home, tool.source, tool.backups = keep

    def _manifest(self):
        path = f"{self.work}/manifest"
        if self.options.verify and not os.path.exists(path):
            subprocess.run([sys.executable, compare.__file__, "manifest", self.source, path], check=True)


def pick_file(source, name):
    """The file that `restore_file` asks for: the dump of `large`, else the plain file nearest to 64 KiB."""
    if name == "large":
        return "dump.sql"
    best = None
    for at, _, names in os.walk(source):
        for item in names:
            path = os.path.join(at, item)
            info = os.lstat(path)
            if os.path.islink(path) or info.st_nlink > 1:
                continue
            rank = (abs(info.st_size - 65536), path)
            best = min(best, rank) if best else rank
    return os.path.relpath(best[1], source)
