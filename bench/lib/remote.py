"""An OpenSSH server on a loopback port with keys of its own, and a proxy in front that makes it answer later.

Needs Debian's openssh-server and, for latency, `cargo build --release -p holdfast-testkit --example delay_proxy`."""

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
    """`port` is where clients connect; `user`, `key` and `known_hosts` let them in; `fingerprint` is the host key's."""

    def __init__(self, folder, latency_ms, proxy):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.user, self.key = folder, getpass.getuser(), f"{folder}/id"
        self.children = []
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
        self.children.append(subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", f"{folder}/sshd_config", "-E", f"{folder}/log"]))
        self.wait(own)
        self.port = own
        if latency_ms:
            child = subprocess.Popen([proxy, str(own), str(latency_ms)], stdout=subprocess.PIPE, text=True)
            self.children.append(child)
            self.port = int(child.stdout.readline())
        with open(f"{folder}/host.pub") as f:
            public = " ".join(f.read().split()[:2])
        self.known_hosts = f"{folder}/known_hosts"
        with open(self.known_hosts, "w") as f:
            f.write(f"[127.0.0.1]:{self.port} {public}\n")
        out = subprocess.run(["ssh-keygen", "-lf", f"{folder}/host.pub"], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.fingerprint = out.split()[1]

    def wait(self, port):
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("sshd did not start: see " + self.folder + "/log")

    def ssh(self):
        """The `ssh` command line of tools that call it."""
        return (f"ssh -p {self.port} -i {self.key} -o UserKnownHostsFile={self.known_hosts} -o IdentitiesOnly=yes -o LogLevel=ERROR "
                f"{self.user}@127.0.0.1 -s sftp")

    def stop(self):
        for child in reversed(self.children):
            child.terminate()
            child.wait()
