"""A cluster as a user makes it: three node processes and two gateway processes, from `ringfort cluster init`.

Environment
    RINGFORT_BIN            the binary (needed unless RINGFORT_ENDPOINTS is set)
    RINGFORT_NODE_ARGS      more arguments for each `ringfort node`
    RINGFORT_GATEWAY_ARGS   more arguments for each `ringfort gateway` (default: --base-domain s3.localhost)
    RINGFORT_KEEP           keep the folders after the run
    RINGFORT_ENDPOINTS      comma-separated S3 URLs of a server that runs already; then no process is started,
                            keys come from RINGFORT_ACCESS_KEY / RINGFORT_SECRET_KEY (and RINGFORT_ALT_*),
                            and tests that need processes are skipped
"""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from .ports import free_ports
from .process import ManagedProcess, wait_until

REGION = "us-east-1"
BASE_DOMAIN = "s3.localhost"
READY_SECONDS = 60


def http_status(url, timeout_seconds=2):
    """Status of a plain GET, or None when nothing answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_seconds) as answer:
            return answer.status
    except urllib.error.HTTPError as e:
        return e.code
    except OSError:
        return None


class Keys:
    def __init__(self, access_key, secret_key):
        self.access_key = access_key
        self.secret_key = secret_key


class ExternalCluster:
    """Somebody else's server: endpoints and keys, no processes."""

    processes = ()
    nodes = ()
    gateways = ()
    admin_token = None

    def __init__(self):
        self.endpoints = [u.strip().rstrip("/") for u in os.environ["RINGFORT_ENDPOINTS"].split(",")]
        if len(self.endpoints) == 1:
            self.endpoints *= 2
        self.keys = Keys(os.environ["RINGFORT_ACCESS_KEY"], os.environ["RINGFORT_SECRET_KEY"])

    def start(self):
        return self

    def stop(self):
        pass

    def alt_keys(self):
        if "RINGFORT_ALT_ACCESS_KEY" not in os.environ:
            return None
        return Keys(os.environ["RINGFORT_ALT_ACCESS_KEY"], os.environ["RINGFORT_ALT_SECRET_KEY"])


class Cluster:
    def __init__(self, nodes=3, gateways=2, replicas=3, folder=None, settings=None):
        self.binary = os.environ.get("RINGFORT_BIN")
        assert self.binary, "set RINGFORT_BIN to the ringfort binary (or RINGFORT_ENDPOINTS to a running server)"
        self.binary = str(Path(self.binary).resolve())
        self.folder = Path(folder or tempfile.mkdtemp(prefix="ringfort-compat-"))
        # Variables of every process.
        self.env = {**os.environ, **(settings or {})}
        self.node_count, self.gateway_count, self.replicas = nodes, gateways, replicas
        self.nodes, self.gateways = [], []
        self.node_admin, self.gateway_admin, self.endpoints = [], [], []
        self.keys = self.admin_token = self.cluster_id = None
        self._alt = None

    @property
    def processes(self):
        return [*self.nodes, *self.gateways]

    def start(self):
        try:
            self._init_and_start()
        except BaseException:
            print(self.log_tails())
            self.stop()
            raise
        return self

    def _init_and_start(self):
        n, g = self.node_count, self.gateway_count
        ports = iter(free_ports(2 * (n + g)))
        listen = lambda: f"127.0.0.1:{next(ports)}"  # noqa: E731
        node_listen = [listen() for _ in range(n)]
        self.node_admin = [listen() for _ in range(n)]
        gateway_listen = [listen() for _ in range(g)]
        self.gateway_admin = [listen() for _ in range(g)]
        self.endpoints = [f"http://{address}" for address in gateway_listen]
        node_more = shlex.split(os.environ.get("RINGFORT_NODE_ARGS", ""))
        gateway_more = shlex.split(os.environ.get("RINGFORT_GATEWAY_ARGS", f"--base-domain {BASE_DOMAIN}"))

        first = self.folder / "n1"
        made = self.run(
            "cluster", "init", "--data", first, "--listen", node_listen[0],
            "--admin-listen", self.node_admin[0], "--name", "n1", "--nodes", n,
            "--replicas", self.replicas, "--gateways", g, "--json",
        )  # fmt: skip
        self.cluster_id = made["cluster_id"]
        self.keys = Keys(made["access_key"], made["secret_key"])
        self.admin_token = made["admin_token"]
        node_tokens, gateway_tokens = made["join_tokens"]["nodes"], made["join_tokens"]["gateways"]
        assert len(node_tokens) == n - 1 and len(gateway_tokens) == g, "one token for each that joins"

        self.nodes = [self._process("n1", ["node", "--data", first, *node_more])]
        for i in range(1, n):
            again = ["node", "--data", self.folder / f"n{i + 1}", "--listen", node_listen[i],
                     "--admin-listen", self.node_admin[i], "--name", f"n{i + 1}", *node_more]  # fmt: skip
            self.nodes.append(self._process(f"n{i + 1}", again, node_tokens[i - 1]))
        for i in range(g):
            again = ["gateway", "--data", self.folder / f"g{i + 1}", "--listen", gateway_listen[i],
                     "--admin-listen", self.gateway_admin[i], *gateway_more]  # fmt: skip
            self.gateways.append(self._process(f"g{i + 1}", again, gateway_tokens[i]))

        for node in self.nodes:
            node.start()
        for i, node in enumerate(self.nodes):
            self.wait_node_ready(i)
        for gateway in self.gateways:
            gateway.start()
        for i in range(g):
            self.wait_gateway_ready(i)

    def _process(self, name, args, token=None):
        argv = [self.binary, *args]
        return ManagedProcess(
            name,
            [*argv, "--join", token] if token else argv,
            self.folder / f"{name}.log",
            restart_argv=argv,
            env=self.env,
        )

    def metrics(self, process):
        """Every sample of the process's /metrics: {'name{labels}': value}."""
        admin = [*self.node_admin, *self.gateway_admin][self.processes.index(process)]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{admin}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {k: float(v) for k, _, v in (x.rpartition(" ") for x in lines if x and x[0] != "#")}

    def metric(self, process, name):
        """The sum of one metric over its labels."""
        return sum(v for k, v in self.metrics(process).items() if k.partition("{")[0] == name)

    def wait_converged(self, timeout_seconds=120):
        """Until no hint waits, no disk owes a chunk, and all nodes have as many registers and chunks.

        True only where every node keeps a replica of everything: as many nodes as replicas.
        """
        assert self.node_count == self.replicas
        names = ("ringfort_disk_rows", "ringfort_disk_chunks", "ringfort_disk_missing_chunks")

        def probe():
            waiting = [self.metric(g, "ringfort_hints_waiting") for g in self.gateways]
            disks = [tuple(self.metric(n, name) for name in names) for n in self.nodes]
            probe.last = {"hints": waiting, "rows_chunks_missing": disks}
            return not any(waiting) and len(set(disks)) == 1 and disks[0][2] == 0

        probe.last = None
        try:
            wait_until(probe, "all replicas the same", timeout_seconds, 0.25)
        except AssertionError as e:
            raise AssertionError(f"{e}: {probe.last}") from e
        return probe.last

    def run(self, *args, timeout_seconds=60, codes=(0,)):
        """Runs one `ringfort` command that answers in JSON, and returns that."""
        argv = [self.binary, *[str(a) for a in args]]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_seconds)
        assert done.returncode in codes, f"{args[:2]} exited {done.returncode}: {done.stderr[-2000:]}"
        return json.loads(done.stdout)

    def admin(self, *args, asked=0, timeout_seconds=60):
        """One command of the admin API, asked of a node, with its JSON answer.

        A `status` that says "not ready" is an answer too: on a busy machine a ping may be late.
        """
        codes = (0, 1) if args[0] == "status" else (0,)
        return self.run(
            *args, "--json", "--admin-endpoint", f"http://{self.node_admin[asked]}", "--admin-token", self.admin_token,
            timeout_seconds=timeout_seconds, codes=codes,
        )  # fmt: skip

    def join_node(self, name):
        """One more node, started like the others, with a token made now."""
        token = self.admin("cluster", "token", "--role", "node")["token"]
        listen, admin = (f"127.0.0.1:{port}" for port in free_ports(2))
        args = ["node", "--data", self.folder / name, "--listen", listen, "--admin-listen", admin, "--name", name]
        process = self._process(name, args, token)
        self.nodes.append(process)
        self.node_admin.append(admin)
        process.start()
        return process

    def wait_node_ready(self, i, timeout_seconds=READY_SECONDS):
        self._wait_ready(self.nodes[i], f"http://{self.node_admin[i]}", timeout_seconds)

    def wait_gateway_ready(self, i, timeout_seconds=READY_SECONDS):
        self._wait_ready(self.gateways[i], self.endpoints[i], timeout_seconds)

    def wait_all_ready(self, timeout_seconds=READY_SECONDS):
        for i in range(len(self.nodes)):
            self.wait_node_ready(i, timeout_seconds)
        for i in range(len(self.gateways)):
            self.wait_gateway_ready(i, timeout_seconds)

    def _wait_ready(self, process, base_url, timeout_seconds):
        def probe():
            assert process.is_alive, f"{process.name} ended with {process.popen.returncode} before it was ready"
            return http_status(f"{base_url}/health/ready") == 200

        wait_until(probe, f"{process.name} ready at {base_url}", timeout_seconds)

    def restart(self, process):
        process.start()
        if process in self.nodes:
            self.wait_node_ready(self.nodes.index(process))
        else:
            self.wait_gateway_ready(self.gateways.index(process))

    def ensure_all_running(self):
        for process in self.processes:
            if not process.is_alive:
                process.start()
        self.wait_all_ready()

    def alt_keys(self):
        """A second, read-write key, made through the admin API as an operator would."""
        if self._alt is None:
            made = self.run(
                "key", "create", "--admin-endpoint", f"http://{self.node_admin[0]}",
                "--admin-token", self.admin_token, "--name", "alt", "--role", "read-write", "--json",
            )  # fmt: skip
            self._alt = Keys(made["access_key"], made["secret_key"])
        return self._alt

    def log_tails(self, bytes_max=3000):
        parts = []
        for process in self.processes:
            state = "alive" if process.is_alive else f"ended {process.popen and process.popen.returncode}"
            parts.append(f"----- {process.name} ({state}) {process.log_path}\n{process.log_tail(bytes_max)}")
        return "\n".join(parts)

    def log_sizes(self):
        return {p.name: p.log_path.stat().st_size if p.log_path.exists() else 0 for p in self.processes}

    def panics(self):
        """Lines of any log that tell of a panic: there must be none, whatever was sent."""
        found = []
        for process in self.processes:
            if process.log_path.exists():
                text = process.log_path.read_text("utf-8", "replace")
                found += [f"{process.name}: {line}" for line in text.splitlines() if "panicked at" in line]
        return found

    def stop(self):
        for process in [*self.gateways, *self.nodes]:
            process.terminate()
        if not os.environ.get("RINGFORT_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)


def make_cluster(**kwargs):
    return ExternalCluster() if os.environ.get("RINGFORT_ENDPOINTS") else Cluster(**kwargs)
