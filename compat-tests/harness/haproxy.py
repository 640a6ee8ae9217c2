"""HAProxy in front of the gateways, from the very file that `deploy/haproxy/` gives to operators.

Only addresses are replaced: the bind line and the two server lines.
"""

import re
import shutil
import subprocess
from pathlib import Path

from .cluster import http_status
from .ports import free_ports
from .process import ManagedProcess, wait_until

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "haproxy" / "haproxy.cfg"


def haproxy_binary():
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


def adapted_config(gateway_addresses, port):
    text = CONFIG.read_text()
    text, binds = re.subn(r"(?m)^(\s+bind\s+)\S+", rf"\g<1>127.0.0.1:{port}", text)
    assert binds == 1, "the example has one bind line"
    addresses = iter(gateway_addresses)
    text, servers = re.subn(r"(?m)^(\s+server\s+\S+\s+)\S+", lambda m: m[1] + next(addresses), text)
    assert servers == len(gateway_addresses), "one server line for each gateway"
    return text


class HaProxy:
    def __init__(self, cluster):
        self.binary = haproxy_binary()
        (self.port,) = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        path = cluster.folder / "haproxy.cfg"
        path.write_text(adapted_config([e.removeprefix("http://") for e in cluster.endpoints], self.port))
        checked = subprocess.run([self.binary, "-c", "-f", path], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        self.process = ManagedProcess("haproxy", [self.binary, "-db", "-f", path], cluster.folder / "haproxy.log")

    def start(self):
        self.process.start()
        wait_until(
            lambda: http_status(f"{self.endpoint}/health/ready") == 200, "a gateway behind HAProxy", 30
        )
        return self

    def stop(self):
        self.process.terminate(5)
