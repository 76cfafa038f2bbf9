"""Fair conditions around one timed command: nothing waiting to be written, inputs in the page cache, a sealed environment."""

import json
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


class Failed(Exception):
    """A tool's command did not succeed; the text says which and why."""


def run(argv, env, logs, folder="/", out=None):
    """Runs `argv`, output to files below `logs` (or to `out`); returns wall and cpu seconds, peak memory in bytes, and the output's path."""
    os.makedirs(logs, exist_ok=True)
    out, err = out or os.path.join(logs, "stdout"), os.path.join(logs, "stderr")
    busy = _busy()
    done = subprocess.run([sys.executable, "-I", "-S", os.path.join(HERE, "timed.py"), out, err, folder, *argv],
                          env=env, stdout=subprocess.PIPE, text=True)
    try:
        result = json.loads(done.stdout)
    except ValueError:
        raise Failed(f"{argv[0]}: could not be started") from None
    if result["code"] != 0:
        raise Failed(f"{' '.join(argv)}: exit code {result['code']}: {_tail(err) or (_tail(out) if os.path.isfile(out) else '')}")
    result["stdout"] = out
    # Cores that anybody else kept busy meanwhile; the starting process itself takes some 20 ms.
    result["others"] = max(0.0, (_busy() - busy - result["cpu"] - 0.04) / max(result["wall"], 0.2))
    return result


def _busy():
    """CPU seconds that this machine has worked or been kept waiting by its host since it started."""
    with open("/proc/stat") as f:
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def wait_idle(seconds):
    """Waits until others use less than a fifth of a core for half a second, at most `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = _busy()
        time.sleep(0.5)
        if _busy() - before < 0.1:
            return


def _tail(path):
    with open(path, errors="replace") as f:
        return " | ".join(f.read()[-2000:].strip().splitlines()[-4:])


def environment(home, extra):
    """What a tool sees: a home of its own for caches and configuration, and nothing of the user's."""
    os.makedirs(home, exist_ok=True)
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": home, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC",
            "XDG_CACHE_HOME": f"{home}/cache", "XDG_CONFIG_HOME": f"{home}/config", "XDG_DATA_HOME": f"{home}/data",
            "XDG_STATE_HOME": f"{home}/state", "TMPDIR": home, **extra}


def warm(folder):
    """Reads every file once, so that nobody pays for the disk or for what the tool before dropped from the cache."""
    buffer = bytearray(1 << 20)
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                fd = os.open(os.path.join(at, name), os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                while os.readv(fd, [buffer]):
                    pass
            finally:
                os.close(fd)


def size(folder):
    """Bytes in the files below `folder` (apparent, so that a file system's block size does not count)."""
    total = 0
    for at, _, names in os.walk(folder):
        total += sum(os.lstat(os.path.join(at, name)).st_size for name in names)
    return total


def free_memory():
    with open("/proc/meminfo") as f:
        fields = dict(line.split(":") for line in f)
    return int(fields["MemAvailable"].split()[0]) * 1024


def roomy(folder, need):
    """Whether `folder` exists as a memory file system with `need` bytes to spare, in it and in memory."""
    try:
        spare = shutil.disk_usage(folder).free
    except OSError:
        return False
    return spare > need * 1.2 and free_memory() > need * 2 + (2 << 30) and os.access(folder, os.W_OK)


def clear(folder):
    if os.path.lexists(folder):
        subprocess.run(["chmod", "-R", "u+rwX", folder], stderr=subprocess.DEVNULL)
        shutil.rmtree(folder)
