"""A cluster grows and shrinks under traffic: a fourth node, a fifth of double weight, the first drained."""

import json
import os
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from harness.clients import s3_client
from harness.cluster import Cluster
from harness.made import made_bytes
from harness.names import fresh_name
from harness.process import wait_until

FULL = os.environ.get("RINGFORT_FULL") == "1"
OBJECTS = 3_000 if FULL else 300
MIB = 1 << 20
pytestmark = pytest.mark.timeout(3600 if FULL else 900)


@pytest.fixture
def three():
    made = Cluster(settings={"RINGFORT_SWEEP_INTERVAL": "2s"}).start()
    yield made
    panics = made.panics()
    made.stop()
    assert not panics, panics


class Register(threading.Thread):
    """Two clients that increment one number by If-Match, through both gateways: a lost or doubled update shows."""

    def __init__(self, cluster, bucket, key):
        super().__init__()
        retries = {"max_attempts": 10, "mode": "standard"}
        self.clients = [s3_client(e, cluster.keys, retries=retries) for e in cluster.endpoints]
        self.bucket, self.key = bucket, key
        self.stopped, self.added, self.errors, self.times = threading.Event(), 0, [], []
        self.clients[0].put_object(Bucket=bucket, Key=key, Body=b"0")

    def run(self):
        turn = 0
        while not self.stopped.is_set():
            s3 = self.clients[turn % 2]
            turn += 1
            began = time.monotonic()
            try:
                got = s3.get_object(Bucket=self.bucket, Key=self.key)
                number = int(got["Body"].read())
                # Alone on its key: what was acknowledged is what must be read.
                if number != self.added:
                    self.errors.append(f"{self.key}: read {number}, acknowledged {self.added}")
                    return
                s3.put_object(Bucket=self.bucket, Key=self.key, Body=str(number + 1).encode(), IfMatch=got["ETag"])
                self.added += 1
            except (ClientError, BotoCoreError) as e:
                self.errors.append(repr(e)[:300])
                return
            self.times.append((began, time.monotonic() - began))


def p99_ms(registers, since, until):
    times = sorted(t for r in registers for at, t in r.times if since <= at < until)
    return round(1000 * times[len(times) * 99 // 100], 1) if times else None


def held(state):
    return {n["name"]: sum(d["partitions"] for d in n["disks"]) for n in state["nodes"]}


def at_rest(cluster, version):
    def probe():
        state = cluster.admin("status", asked=1)
        p = state["partitions"]
        settled = state["layout_version"] > version and p["moving"] == 0 and p["whole"] == p["total"]
        # Nothing moves, and nothing is left to be moved.
        return settled and cluster.admin("layout", "plan", asked=1)["replicas"] == 0

    wait_until(probe, "the layout at rest", 900, 0.5)
    return cluster.admin("status", asked=1)


def change(cluster, *flags):
    plan = cluster.admin("layout", "plan", *flags, asked=1)
    version = cluster.admin("status", asked=1)["layout_version"]
    began = time.monotonic()
    cluster.admin("layout", "apply", "--yes", *flags, asked=1)
    state = at_rest(cluster, version)
    return {"plan": plan, "seconds": round(time.monotonic() - began, 1), "held": held(state), "from": began, "to": time.monotonic()}


def test_nodes_come_and_the_first_goes_under_traffic(three):
    s3 = s3_client(three.endpoints[0], three.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    bodies = {f"k/{i:05}": made_bytes(i, 6 * MIB if i % 100 == 0 else 700 + i) for i in range(OBJECTS)}
    for key, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    registers = [Register(three, bucket, f"number/{i}") for i in range(4)]
    quiet_from = time.monotonic()
    for register in registers:
        register.start()
    wait_until(lambda: sum(r.added for r in registers) > 200, "some traffic before", 120)
    quiet_to = time.monotonic()
    total = three.admin("status")["partitions"]["total"]

    three.join_node("n4")
    three.wait_node_ready(3)
    four = change(three, "--use", "n4")
    three.join_node("n5")
    three.wait_node_ready(4)
    disk = three.admin("layout", "show", asked=1)
    sizes = {d["id"]: (n["name"], d["size_bytes"]) for n in disk["nodes"] for d in n["disks"]}
    fifth, size = next((i, s) for i, (name, s) in sizes.items() if name == "n5")
    five = change(three, "--weight", f"{fifth}={2 * size}")
    drained = change(three, "--drain", "n1")

    for register in registers:
        register.stopped.set()
        register.join()
    assert [r.errors for r in registers if r.errors] == []
    for register in registers:
        assert int(s3.get_object(Bucket=bucket, Key=register.key)["Body"].read()) == register.added
    assert drained["held"]["n1"] == 0
    for step, weights in ((four, {"n1": 1, "n2": 1, "n3": 1, "n4": 1}), (drained, {"n2": 1, "n3": 1, "n4": 1, "n5": 2})):
        ideal = 3 * total / sum(weights.values())
        for name, weight in weights.items():
            # A disk holds a partition once, so a weight above its share of N counts as that.
            wanted = min(ideal * weight, total)
            assert step["held"][name] <= wanted * 1.08 or weight == 1, (name, step["held"])
    # The drained node may go; everything is there without it.
    three.nodes[0].kill()
    got = s3_client(three.endpoints[1], three.keys, retries={"max_attempts": 10, "mode": "standard"})
    for key, body in bodies.items():
        assert got.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
    brief = lambda step: {"seconds": step["seconds"], "held": step["held"], "plan": {k: v for k, v in step["plan"].items() if not isinstance(v, (list, dict))}, "p99_ms": p99_ms(registers, step["from"], step["to"])}  # noqa: E731
    print(json.dumps({
        "test": "growth", "full": FULL, "increments": sum(r.added for r in registers),
        "p99_ms_before": p99_ms(registers, quiet_from, quiet_to), "fourth": brief(four), "fifth": brief(five), "drained": brief(drained),
    }))  # fmt: skip
