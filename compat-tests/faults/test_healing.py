"""Lost replicas are restored without an operator: a node that stays away, a disk that is emptied."""

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from harness.clients import s3_client
from harness.cluster import Cluster
from harness.made import made_bytes
from harness.names import fresh_name
from harness.process import wait_until

FULL = os.environ.get("RINGFORT_FULL") == "1"
MIB = 1 << 20
OBJECTS = 10_000 if FULL else 600
pytestmark = pytest.mark.timeout(3600 if FULL else 900)

SETTINGS = {
    "RINGFORT_SWEEP_INTERVAL": "2s",
    "RINGFORT_DOWN_AFTER": "5s",
    "RINGFORT_OUT_AFTER": "5s",
    "RINGFORT_BACK_AFTER": "3s",
}


@pytest.fixture
def five():
    made = Cluster(nodes=5, settings=SETTINGS).start()
    yield made
    panics = made.panics()
    made.stop()
    assert not panics, panics


def status(cluster):
    """As another node than the first sees it: any of them answers for all."""
    return cluster.admin("status", asked=1)


def partitions_of(state, name):
    node = next(n for n in state["nodes"] if n["name"] == name)
    return sum(disk["partitions"] for disk in node["disks"])


def is_whole(state):
    p = state["partitions"]
    return p["whole"] == p["total"] and p["moving"] == 0


def sizes():
    """Mostly small, some larger than a chunk."""
    return [1024 + 37 * i if i % 10 else (i // 10 % 8 + 1) * MIB for i in range(200)]


def put_all(s3, bucket, count):
    kinds = sizes()

    def put(i):
        body = made_bytes(i, kinds[i % len(kinds)] if i < 400 or i % 10 else 2048)
        s3.put_object(Bucket=bucket, Key=f"k/{i:05}", Body=body)
        return len(body)

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(put, range(count)))


def check_all(s3, bucket, count):
    kinds = sizes()

    def check(i):
        wanted = made_bytes(i, kinds[i % len(kinds)] if i < 400 or i % 10 else 2048)
        assert s3.get_object(Bucket=bucket, Key=f"k/{i:05}")["Body"].read() == wanted, i

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(count)))


def all_compared_equal(cluster, alive):
    """Until each of the nodes has twice compared all that it holds with the replicas beside it, and found it equal."""
    before = {n.name: cluster.metric(n, "ringfort_sweeps_total") for n in alive}

    def probe():
        probe.last = {
            n.name: tuple(cluster.metric(n, f"ringfort_sweep{x}") for x in ("s_total", "_differing", "_failed")) for n in alive
        }
        missing = sum(cluster.metric(n, "ringfort_disk_missing_chunks") for n in alive)
        return missing == 0 and all(s >= before[k] + 2 and d == 0 and f == 0 for k, (s, d, f) in probe.last.items())

    try:
        wait_until(probe, "replicas that compare equal", 300, 0.5)
    except AssertionError as e:
        raise AssertionError(f"{e}: {probe.last}") from e


class Traffic(threading.Thread):
    """A client with the SDK's ordinary retries, and what it was refused."""

    def __init__(self, cluster, bucket):
        super().__init__()
        retries = {"max_attempts": 10, "mode": "standard"}
        self.clients = [s3_client(e, cluster.keys, retries=retries) for e in cluster.endpoints]
        self.bucket, self.stopped = bucket, threading.Event()
        self.written, self.errors, self.slowest = {}, [], 0.0

    def run(self):
        i = 0
        while not self.stopped.is_set():
            s3, key, body = self.clients[i % 2], f"t/{i % 97}", made_bytes(("t", i), 3000 + i % 7)
            began = time.monotonic()
            try:
                s3.put_object(Bucket=self.bucket, Key=key, Body=body)
                self.written[key] = body
                assert s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() == body, key
            except (ClientError, BotoCoreError, AssertionError) as e:
                self.errors.append(repr(e)[:300])
                self.written.pop(key, None)
            self.slowest = max(self.slowest, time.monotonic() - began)
            i += 1
        self.count = i

    def end(self):
        self.stopped.set()
        self.join()
        for key, body in self.written.items():
            assert self.clients[1].get_object(Bucket=self.bucket, Key=key)["Body"].read() == body, key


def test_a_node_that_stays_away_is_made_up_for(five):
    s3 = s3_client(five.endpoints[0], five.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    put_all(s3, bucket, OBJECTS)
    total = status(five)["partitions"]["total"]
    traffic = Traffic(five, bucket)
    traffic.start()
    gone = five.nodes[4]
    gone.kill()
    began = time.monotonic()
    wait_until(lambda: partitions_of(status(five), "n5") == 0 and is_without(five, "n5"), "the node's partitions elsewhere", 600, 0.5)
    seconds = time.monotonic() - began
    traffic.end()
    assert traffic.errors == []
    rest = [n for n in five.nodes if n is not gone]
    all_compared_equal(five, rest)
    held = {n: partitions_of(status(five), n) for n in ("n1", "n2", "n3", "n4")}
    assert sum(held.values()) == 3 * total
    # Two of the others may now be away for each key that they do not both hold: take one, which any must survive.
    for node in rest[2:]:
        node.kill()
        check_all(s3_client(five.endpoints[1], five.keys, retries={"max_attempts": 10, "mode": "standard"}), bucket, min(OBJECTS, 300))
        five.restart(node)
    check_all(s3, bucket, OBJECTS)
    figures = {"objects": OBJECTS, "seconds_from_kill": round(seconds, 1), "held": held, "requests": 2 * traffic.count}
    # It comes back: what it still has is of no use to anybody, and it is filled anew.
    began = time.monotonic()
    five.restart(gone)
    wait_until(lambda: partitions_of(status(five), "n5") > total * 3 // 5 * 0.9 and is_whole(status(five)), "the node filled again", 600, 0.5)
    all_compared_equal(five, five.nodes)
    check_all(s3, bucket, OBJECTS)
    figures |= {"seconds_back": round(time.monotonic() - began, 1), "slowest_s": round(traffic.slowest, 2)}
    print(json.dumps({"test": "failover", "full": FULL, **figures}))


def is_without(cluster, name):
    """Whether all partitions have all their replicas, none of them on that node."""
    state = status(cluster)
    p = state["partitions"]
    return p["moving"] == 0 and p["whole"] == p["total"]


def test_an_emptied_disk_is_filled_again_while_clients_write(five):
    s3 = s3_client(five.endpoints[0], five.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    stored = put_all(s3, bucket, OBJECTS)
    before = partitions_of(status(five), "n3")
    traffic = Traffic(five, bucket)
    traffic.start()
    node = five.nodes[2]
    node.kill()
    shutil.rmtree(five.folder / "n3" / "disk1")
    began = time.monotonic()
    five.restart(node)
    wait_until(lambda: is_whole(status(five)) and partitions_of(status(five), "n3") > before * 0.9, "the disk filled again", 600, 0.5)
    seconds = time.monotonic() - began
    traffic.end()
    assert traffic.errors == []
    all_compared_equal(five, five.nodes)
    check_all(s3, bucket, OBJECTS)
    # The proof: with each of its neighbours gone, answers need the one that was filled.
    for other in (five.nodes[0], five.nodes[4]):
        other.kill()
        check_all(s3_client(five.endpoints[1], five.keys, retries={"max_attempts": 10, "mode": "standard"}), bucket, min(OBJECTS, 300))
        five.restart(other)
    print(json.dumps({"test": "wiped", "full": FULL, "objects": OBJECTS, "bytes": stored, "seconds": round(seconds, 1), "requests": 2 * traffic.count, "slowest_s": round(traffic.slowest, 2)}))
