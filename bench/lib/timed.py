"""Runs one command and prints what it used, as JSON. Started anew for every measurement and kept tiny on purpose:
the kernel counts the memory of the process that starts a program as that program's, so the harness itself (tens of
MiB) must not be that process. What remains, about 8 MiB, is the floor of every peak in the tables."""
import os
import sys
import time


def main():
    out, err, folder = sys.argv[1:4]
    argv = sys.argv[4:]
    files = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
             (os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
             (os.POSIX_SPAWN_OPEN, 2, err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    os.chdir(folder)
    start = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=files)
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - start
    print('{"wall": %.6f, "cpu": %.6f, "memory": %d, "code": %d}' % (
        wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)))


main()
