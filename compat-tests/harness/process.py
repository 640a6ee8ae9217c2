"""One server process: start, stop by pid, SIGKILL, restart, and what /proc tells about it.

Never signals anything but the pid it started itself. Logs of all starts of one process go to one file.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ManagedProcess:
    def __init__(self, name, argv, log_path, restart_argv=None, env=None):
        self.name = name
        self.argv = [str(a) for a in argv]
        # A joining process shows its one-time token at its first start only.
        self.restart_argv = [str(a) for a in (restart_argv or argv)]
        self.log_path = Path(log_path)
        self.env = env
        self.popen = None
        self.starts = 0

    @property
    def pid(self):
        return self.popen.pid if self.popen else None

    @property
    def is_alive(self):
        return self.popen is not None and self.popen.poll() is None

    def start(self):
        assert not self.is_alive, f"{self.name} is already running"
        argv = self.argv if self.starts == 0 else self.restart_argv
        self.starts += 1
        with open(self.log_path, "ab") as log:
            log.write(f"\n=== start {self.starts}: {' '.join(redact(argv))}\n".encode())
            log.flush()
            self.popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=self.env
            )

    def kill(self):
        """SIGKILL and reap; a process that is already gone is no error."""
        if self.popen is None:
            return
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(timeout=30)

    def send(self, number):
        self.popen.send_signal(number)

    def wait(self, timeout_seconds):
        """The exit code, once the process has ended by itself."""
        return self.popen.wait(timeout=timeout_seconds)

    def terminate(self, timeout_seconds=20):
        """SIGTERM, then SIGKILL. Returns the exit code; -9 says that it did not end by itself."""
        if self.popen is None:
            return None
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(timeout=timeout_seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode

    def memory(self):
        """Peak and present resident bytes of the running process: {'VmHWM': n, 'VmRSS': n}."""
        found = {}
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                key, _, rest = line.partition(":")
                if key in ("VmHWM", "VmRSS"):
                    found[key] = int(rest.split()[0]) * 1024
        return found

    def cpu_seconds(self):
        return cpu_seconds_of(self.pid)

    def log_tail(self, bytes_max=6000):
        try:
            data = self.log_path.read_bytes()
        except OSError:
            return ""
        return data[-bytes_max:].decode("utf-8", "replace")


def cpu_seconds_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def redact(argv):
    out, hide = [], False
    for word in argv:
        out.append("***" if hide else word)
        hide = word in ("--join", "--admin-token")
    return out


def wait_until(probe, what, timeout_seconds, pause_seconds=0.1):
    """Polls `probe` until it returns something true; AssertionError naming `what` after the bound."""
    deadline = time.monotonic() + timeout_seconds
    last = None
    while time.monotonic() < deadline:
        last = probe()
        if last:
            return last
        time.sleep(pause_seconds)
    raise AssertionError(f"not within {timeout_seconds} s: {what} (last: {last!r})")
