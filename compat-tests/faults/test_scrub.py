"""Rot in one node's files: found by one scrub, mended from the other replicas, and never shown to a client."""

import json
import os
import random
import subprocess
import threading

import pytest
from harness.clients import s3_client
from harness.cluster import Cluster
from harness.made import made_bytes
from harness.names import fresh_name
from harness.process import wait_until

MIB = 1 << 20
IS_FULL = os.environ.get("RINGFORT_FULL") == "1"
FLIPS = 1_000 if IS_FULL else 60
INDEX_FLIPS = 20 if IS_FULL else 4
OBJECTS = 600 if IS_FULL else 300
SEGMENT_HEADER = 4096
pytestmark = pytest.mark.timeout(1_800 if IS_FULL else 900)


@pytest.fixture(scope="module")
def own_cluster():
    # Nothing but the scrub is to find what is rotten: the sweeps compare what the indexes say, and are far apart.
    made = Cluster(settings={"RINGFORT_SWEEP_INTERVAL": "1h"}).start()
    yield made
    panics = made.panics()
    made.stop()
    assert not panics, panics


def admin(cluster, *args, is_well=True):
    """`ringfort scrub` or the like, in JSON; `is_well`: whether it is to end with 0."""
    argv = [cluster.binary, *args, "--json", "--admin-endpoint", f"http://{cluster.node_admin[0]}"]
    env = {**cluster.env, "RINGFORT_ADMIN_TOKEN": cluster.admin_token}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, env=env)
    assert (done.returncode == 0) == is_well, f"{args} exited {done.returncode}: {done.stdout} {done.stderr[-2000:]}"
    return json.loads(done.stdout)


def write_objects(s3, bucket):
    """Bodies by key: small ones inline, larger ones in chunks, multipart ones, and tombstones beside."""
    bodies = {}
    for i in range(OBJECTS):
        size = (1_024, 3_000, 20_000, 100_000, 200_000)[i % 5]
        bodies[f"small/{i}"] = made_bytes(i, size + i)
    for i in range(6):
        bodies[f"large/{i}"] = made_bytes(("large", i), 8 * MIB - i * MIB)
    for key, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    for i in range(2):
        parts = [made_bytes(("part", i, n), 5 * MIB) for n in range(2)]
        key = f"multi/{i}"
        upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        listed = [
            {
                "PartNumber": n + 1,
                "ETag": s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=n + 1, Body=part)["ETag"],
            }
            for n, part in enumerate(parts)
        ]
        s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": listed})
        bodies[key] = b"".join(parts)
    for i in range(20):
        s3.put_object(Bucket=bucket, Key=f"gone/{i}", Body=b"x" * 2_000)
        s3.delete_object(Bucket=bucket, Key=f"gone/{i}")
    return bodies


def written_end(path):
    """Behind the last byte of a segment that is not zero: what is behind it was never written."""
    with open(path, "rb") as file:
        data = file.read()
    return len(data.rstrip(b"\0"))


def flip(path, offset, bit):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))
        file.flush()
        os.fsync(file.fileno())


def places_of(disk, bodies, rng):
    """Offsets in segments. A third anywhere in what is written; the rest in or beside small bodies, where heads, fields
    and states are, which a few large chunks would else leave almost untouched. And how many small bodies are hit."""
    segments = [(path, written_end(path)) for path in sorted(disk.glob("segment-*"))]
    segments = [(path, end) for path, end in segments if end > SEGMENT_HEADER]
    inline = [body for key, body in sorted(bodies.items()) if len(body) < 128 * 1024]
    data = {path: path.read_bytes() for path, _ in segments}
    places, hit = [], set()
    while len(places) < FLIPS:
        if len(places) % 3 == 0:
            path, end = rng.choices(segments, [end for _, end in segments])[0]
            places.append((path, rng.randrange(SEGMENT_HEADER, end)))
            continue
        body = rng.choice(inline)
        for path, content in data.items():
            at = content.find(body[:512])
            if at >= 0:
                # The record's head and fields are before its body: some hundred bytes.
                offset = rng.randrange(-500, min(len(body), 4_000))
                places.append((path, at + offset))
                if offset >= 0:
                    hit.add(body)
                break
    return places, len(hit)


def read_all(s3, bucket, bodies):
    for key, body in bodies.items():
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key


def test_flipped_bits_are_found_and_mended_by_one_scrub(own_cluster):
    cluster = own_cluster
    seed = int(os.environ.get("RINGFORT_SEED", random.SystemRandom().randrange(1 << 32)))
    rng = random.Random(seed)
    print(json.dumps({"test": "scrub", "seed": seed, "flips": FLIPS, "index_flips": INDEX_FLIPS}))
    s3 = s3_client(cluster.endpoints[0], cluster.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    bodies = write_objects(s3, bucket)
    cluster.wait_converged()
    # Nothing is rotten yet.
    assert all(p["found"] == 0 for p in admin(cluster, "verify", "--wait"))

    victim = 1
    disk = cluster.folder / f"n{victim + 1}" / "disk1"
    places, rows_hit = places_of(disk, bodies, rng)
    # A place that is drawn twice must not be turned back.
    flips = {(path, offset, (offset + seed) % 8) for path, offset in places}
    for path, offset, bit in sorted(flips):
        flip(path, offset, bit)
    index = disk / "index.redb"
    for _ in range(INDEX_FLIPS):
        flip(index, rng.randrange(index.stat().st_size), rng.randrange(8))

    # While it is looked for, and mended, every read is right: two readers, one at each gateway.
    wrong, stop, rounds = [], threading.Event(), []

    def reader(endpoint):
        client = s3_client(endpoint, cluster.keys)
        while not stop.is_set():
            for key in rng_keys:
                try:
                    if client.get_object(Bucket=bucket, Key=key)["Body"].read() != bodies[key]:
                        wrong.append(key)
                except Exception as e:  # noqa: BLE001
                    wrong.append(f"{key}: {e}")
                if stop.is_set():
                    break
            rounds.append(endpoint)

    rng_keys = sorted(bodies)
    threads = [threading.Thread(target=reader, args=(e,)) for e in cluster.endpoints]
    # `verify` finds and mends nothing.
    seen = admin(cluster, "verify", "--node", f"n{victim + 1}", "--wait", is_well=False)
    assert seen[0]["found"] > 0 and seen[0]["mended"] == 0, seen
    for thread in threads:
        thread.start()
    first = admin(cluster, "scrub", "--wait")
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:10]
    print(json.dumps({"verify": seen, "scrub": first}))
    by_node = {p["node"]: p for p in first}
    found = by_node[f"n{victim + 1}"]
    assert found["rotten_rows"] >= rows_hit > 0 and found["rotten_chunks"] > 0, (rows_hit, found)
    assert found["mended"] == found["found"] and found["trouble"] is None, found
    assert all(p["found"] == 0 for name, p in by_node.items() if name != f"n{victim + 1}"), by_node
    process = cluster.nodes[victim]
    wait_until(lambda: cluster.metric(process, "ringfort_disk_missing_chunks") == 0, "no chunk missing", 60)
    assert cluster.metric(process, "ringfort_disk_writes_closed") == 0

    second = admin(cluster, "scrub", "--wait")
    assert all(p["found"] == 0 for p in second), second
    status = admin(cluster, "status")
    shown = [d["scrub"]["last"] for n in status["nodes"] for d in n["disks"] if n["name"] == f"n{victim + 1}"]
    assert shown[0]["found"] == 0 and shown[0]["records"] > 0, shown
    assert cluster.metric(process, "ringfort_scrub_mended_total") >= found["mended"]

    # The proof: each of the others gone in turn, half of all answers are the mended node's.
    read_all(s3, bucket, bodies)
    for other in (i for i in range(len(cluster.nodes)) if i != victim):
        cluster.nodes[other].kill()
        read_all(s3, bucket, bodies)
        cluster.restart(cluster.nodes[other])
        cluster.wait_all_ready()


def test_a_mended_node_starts_again_and_rebuilds_its_index(own_cluster):
    """Neither a start nor an index built anew from the segments meets any of the rot again."""
    cluster = own_cluster
    cluster.ensure_all_running()
    victim = cluster.nodes[1]
    s3 = s3_client(cluster.endpoints[0], cluster.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    bodies = {f"{i}": made_bytes(i, 1_000 + 70_000 * (i % 4)) for i in range(40)}
    for key, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    cluster.wait_converged()
    rows = cluster.metric(victim, "ringfort_disk_rows")
    in_use = subprocess.run(
        [cluster.binary, "node", "rebuild-index", "--data", str(cluster.folder / "n2")], capture_output=True, text=True
    )
    assert in_use.returncode == 2 and "in use" in in_use.stderr, in_use
    victim.kill()
    rebuilt = cluster.run("node", "rebuild-index", "--data", cluster.folder / "n2", "--json")
    assert [r["lost_partitions"] for r in rebuilt] == [0], rebuilt
    cluster.restart(victim)
    assert cluster.metric(victim, "ringfort_disk_rows") == rows
    assert all(p["found"] == 0 for p in admin(cluster, "scrub", "--node", "n2", "--wait"))
    cluster.nodes[0].kill()
    read_all(s3, bucket, bodies)
    cluster.ensure_all_running()
