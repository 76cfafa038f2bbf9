"""One small class a tool: how it is called. Nothing here measures.

`self.home` is the tool's folder for one run (repository, caches, keys). Each method returns the argv of one command,
or (argv, folder to run in); `prepare` may run commands before the clock starts. A tool's own defaults stand, save
where a comment says why not. `None` means that the tool has no such operation.
"""

import os
import re
import shutil
import subprocess

PASSPHRASE = "correct horse battery staple"


def s3_keys(server):
    """What lets a client of an S3 server in."""
    if not server or server.kind != "s3":
        return {}
    return {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}


class Tool:
    name = program = ""
    key_derivation = True  # does every command turn a passphrase into a key?
    remotes = ()  # kinds of servers that its repository can be on
    server = None  # a remote.Server, if it is on one

    def __init__(self, program=None):
        self.path = shutil.which(program or self.program)
        self.home = self.source = None
        self.backups = 0

    def version(self):
        out = subprocess.run([self.path, *self.version_args()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        found = re.search(r"\d+\.\d+[\w.-]*", out)
        return found.group() if found else (out.strip().splitlines() or ["?"])[0]

    def version_args(self):
        return ["--version"]

    def place(self, home):
        """Starts afresh in `home`; nothing is there yet."""
        self.home, self.backups = home, 0

    @property
    def repository(self):
        return self.server.repository(self) if self.server else f"{self.home}/repository"

    def env(self):
        return {}

    def prepare(self, run):
        """Untimed steps before `init`; `run(argv)` runs one."""

    def restored(self, target):
        """Where below `target` a whole restore puts what was in the source folder."""
        return target + self.source

    def retry_init(self):
        """Called when `init` failed; true if it is worth one more try."""
        return False

    def passphrase(self):
        """Listing the snapshots of a repository that a passphrase opens."""
        return self.list()

    def mount(self, target):
        """Shows the snapshots at `target` until it is interrupted."""

    def mounted(self, target):
        """Where below `target` the newest snapshot has the source folder."""

    # Letting go of all backups but the newest, and giving their space back.
    forget = collect = None


class Holdfast(Tool):
    name = program = "holdfast"
    key_derivation = False  # a key-file slot, save in the row `passphrase`
    by_passphrase = False
    parity = False
    remotes = ("sftp", "s3")

    def _at(self, *rest):
        key = [] if self.by_passphrase else ["--key-file", f"{self.home}/key"]
        at, options = self.repository, []
        s = self.server
        if s and s.kind == "sftp":
            at = f"sftp://{s.user}@127.0.0.1:{s.port}{self.repository}"
            options = ["-o", f"key_file={s.key}", "-o", f"host_key={s.fingerprint}"]
        if s and s.kind == "s3":
            at, options = f"s3://127.0.0.1:{s.port}/{s.bucket}/{s.prefix(self)}", ["-o", "use_tls=false"]
        return [self.path, "at", at, *rest[:1], *key, *options, *rest[1:]]

    def env(self):
        opens = {"HOLDFAST_PASSPHRASE": PASSPHRASE} if self.by_passphrase else {"HOLDFAST_KEY_FILE": f"{self.home}/key"}
        return opens | s3_keys(self.server)

    def version_args(self):
        return ["version"]

    def retry_init(self):
        # `create --key-file` may write the key itself or want to find one of 32 random bytes.
        if self.by_passphrase or os.path.exists(f"{self.home}/key"):
            return False
        with open(os.open(f"{self.home}/key", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
            f.write(os.urandom(32))
        return True

    def init(self):
        return self._at("create", *(["--parity"] if self.parity else []))

    def backup(self, host=None):
        return self._at("backup", *(["--host", host] if host else []), self.source)

    def list(self):
        return self._at("ls")

    def ls(self):
        return self._at("ls", "-r", f"latest:{self.source}")

    def restore(self, target):
        return self._at("restore", "-to", target, "latest")

    def restore_file(self, target, path):
        return self._at("restore", "-to", target, f"latest:{self.source}/{path}")

    def check(self):
        return self._at("check", "--read-data")

    def info(self):
        return self._at("info", "--json")

    def mount(self, target):
        return self._at("mount", target)

    def mounted(self, target):
        return f"{target}/latest{self.source}"

    def forget(self):
        return self._at("forget", "--keep-last", "1", "--apply")

    def collect(self):
        return self._at("gc")

    def plan(self):
        return self._at("gc", "--dry-run", "--json")

    def find(self, pattern):
        return self._at("find", pattern)


class Restic(Tool):
    name = program = "restic"
    remotes = ("sftp", "s3")

    def _at(self, *rest):
        s = self.server
        if s and s.kind == "sftp":
            return [self.path, "-r", f"sftp:{s.user}@127.0.0.1:{self.repository}", "-o", f"sftp.command={s.ssh()}", *rest]
        if s and s.kind == "s3":
            return [self.path, "-r", f"s3:http://127.0.0.1:{s.port}/{s.bucket}/{s.prefix(self)}", *rest]
        return [self.path, "-r", self.repository, *rest]

    def env(self):
        return {"RESTIC_PASSWORD": PASSPHRASE} | s3_keys(self.server)

    def version_args(self):
        return ["version"]

    def init(self):
        # Version 2 compresses; 0.14 would still make version 1 by default.
        return self._at("init", "--repository-version", "2")

    def backup(self, host=None):
        return self._at("backup", *(["--host", host] if host else []), self.source)

    def list(self):
        return self._at("snapshots")

    def ls(self):
        return self._at("ls", "latest")

    def restore(self, target):
        return self._at("restore", "latest", "--target", target)

    def restore_file(self, target, path):
        return self._at("restore", "latest", "--target", target, "--include", f"{self.source}/{path}")

    def check(self):
        return self._at("check", "--read-data")

    def mount(self, target):
        return self._at("mount", target)

    def mounted(self, target):
        return f"{target}/snapshots/latest{self.source}"

    def forget(self):
        return self._at("forget", "--keep-last", "1")

    def collect(self):
        return self._at("prune")


class Rustic(Restic):
    name = program = "rustic"
    remotes = ()

    def env(self):
        return {"RUSTIC_PASSWORD": PASSPHRASE, "RUSTIC_NO_PROGRESS": "true"}

    def version_args(self):
        return ["--version"]

    def init(self):
        return self._at("init")

    def ls(self):
        return self._at("ls", "latest")

    def restore(self, target):
        return self._at("restore", "latest", target)

    def restore_file(self, target, path):
        return self._at("restore", f"latest:{self.source}/{path}", target)

    def mount(self, target):
        return None

    def collect(self):
        # Else what is to be deleted stays for a day.
        return self._at("prune", "--instant-delete")


class Borg(Tool):
    name = program = "borg"

    def env(self):
        return {"BORG_PASSPHRASE": PASSPHRASE, "BORG_BASE_DIR": self.home, "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"}

    def init(self):
        return [self.path, "init", "-e", "repokey-blake2", self.repository]

    def backup(self, host=None):
        self.backups += 1
        return [self.path, "create", f"{self.repository}::a{self.backups}", self.source]

    def list(self):
        return [self.path, "list", self.repository]

    def ls(self):
        return [self.path, "list", f"{self.repository}::a{self.backups}"]

    def restore(self, target):
        return [self.path, "extract", f"{self.repository}::a{self.backups}"], target

    def restore_file(self, target, path):
        return [self.path, "extract", f"{self.repository}::a{self.backups}", f"{self.source}/{path}".lstrip("/")], target

    def check(self):
        # Without this flag only checksums of segments are looked at; the others decrypt and hash.
        return [self.path, "check", "--verify-data", self.repository]

    def forget(self):
        return [self.path, "prune", "--keep-last", "1", self.repository]

    def collect(self):
        return [self.path, "compact", self.repository]


class Bupstash(Tool):
    name = program = "bupstash"
    key_derivation = False

    def env(self):
        return {"BUPSTASH_REPOSITORY": self.repository, "BUPSTASH_KEY": f"{self.home}/key"}

    def version_args(self):
        return ["version"]

    def prepare(self, run):
        run([self.path, "new-key", "-o", f"{self.home}/key"])

    def init(self):
        return [self.path, "init"]

    def backup(self, host=None):
        self.backups += 1
        return [self.path, "put", "--send-log", f"{self.home}/send-log-{host or 0}", f"name=a{self.backups}", self.source]

    def list(self):
        return [self.path, "list"]

    def ls(self):
        return [self.path, "list-contents", f"name=a{self.backups}"]

    def restore(self, target):
        return [self.path, "restore", "--into", target, f"name=a{self.backups}"]

    def restored(self, target):
        return target

    def restore_file(self, target, path):
        return [self.path, "get", "--pick", path, f"name=a{self.backups}"]

    def check(self):
        # It has no check; reading the newest snapshot authenticates what that refers to.
        return [self.path, "get", f"name=a{self.backups}"]

    passphrase = None


ALL = [Holdfast, Restic, Rustic, Borg, Bupstash]


def present(names, programs, log=print):
    """The tools of `names` that are on the PATH (or at the path given in `programs`); says which are not."""
    out = []
    for kind in ALL:
        if kind.name in names:
            tool = kind(programs.get(kind.name))
            if tool.path:
                tool.path = os.path.abspath(tool.path)
                out.append(tool)
            else:
                log(f"note: {kind.name} is not here; left out")
    return out
