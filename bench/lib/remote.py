"""Servers on loopback ports that repositories are kept on, and a proxy in front that makes them answer later.

SFTP needs Debian's openssh-server; S3 and latency need
`cargo build --release -p holdfast-testkit --example s3_server --example delay_proxy`."""

import getpass
import os
import shutil
import socket
import subprocess
import time


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """What all have in common. `kind` is "sftp" or "s3", `port` is where clients connect. `link`: milliseconds of a round trip
    and megabytes a second, 0 for as fast as it goes."""

    kind = ""

    def __init__(self, folder, programs):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.programs, self.children = folder, programs, []

    def start(self, argv, **options):
        child = subprocess.Popen(argv, **options)
        self.children.append(child)
        return child

    def listen(self, own, link):
        """Clients connect to `own` from now on, or to a proxy in front of it."""
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", own), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        else:
            raise RuntimeError(f"the {self.kind} server did not start: see {self.folder}")
        self.port = own
        if any(link):
            child = self.start([f"{self.programs}/delay_proxy", str(own), *map(str, link)], stdout=subprocess.PIPE, text=True)
            self.port = int(child.stdout.readline())

    def repository(self, tool):
        """Where the repository of `tool` lies on this machine."""
        return f"{tool.home}/repository"

    def stop(self):
        for child in reversed(self.children):
            child.terminate()
            child.wait()


class S3Server(Server):
    """Buckets below a folder. Clients sign with `access_key` and `secret_key`."""

    kind = "s3"

    def __init__(self, folder, link, programs):
        super().__init__(folder, programs)
        child = self.start([f"{programs}/s3_server", "--dir", folder], stdout=subprocess.PIPE, text=True)
        said = dict(child.stdout.readline().rstrip("\n").split(": ", 1) for _ in range(3))
        own, self.bucket = said["location"].removeprefix("s3://").split("/", 1)
        self.access_key, self.secret_key = said["access_key"], said["secret_access_key"]
        self.listen(int(own.rsplit(":", 1)[1]), link)

    def repository(self, tool):
        return f"{self.folder}/{self.bucket}/{self.prefix(tool)}"

    def prefix(self, tool):
        """What the keys of a tool's repository begin with."""
        return os.path.basename(tool.home)


class SftpServer(Server):
    """`user`, `key` and `known_hosts` let clients in; `fingerprint` is the host key's."""

    kind = "sftp"

    def __init__(self, folder, link, programs):
        super().__init__(folder, programs)
        self.user, self.key = getpass.getuser(), f"{folder}/id"
        for name in ("host", "id"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}"], check=True)
        shutil.copy(f"{folder}/id.pub", f"{folder}/authorized_keys")
        os.chmod(f"{folder}/authorized_keys", 0o600)
        own = free_port()
        with open(f"{folder}/sshd_config", "w") as f:
            f.write(f"""Port {own}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
MaxStartups 100
Subsystem sftp internal-sftp
""")
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.start([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", f"{folder}/sshd_config", "-E", f"{folder}/log"])
        self.listen(own, link)
        with open(f"{folder}/host.pub") as f:
            public = " ".join(f.read().split()[:2])
        self.known_hosts = f"{folder}/known_hosts"
        with open(self.known_hosts, "w") as f:
            f.write(f"[127.0.0.1]:{self.port} {public}\n")
        out = subprocess.run(["ssh-keygen", "-lf", f"{folder}/host.pub"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.fingerprint = out.split()[1]

    def ssh(self):
        """The `ssh` command line of tools that call it."""
        return (f"ssh -p {self.port} -i {self.key} -o UserKnownHostsFile={self.known_hosts} -o IdentitiesOnly=yes -o LogLevel=ERROR "
                f"{self.user}@127.0.0.1 -s sftp")
