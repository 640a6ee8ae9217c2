"""Replicas are made equal again by comparing them, where nothing else remembers what one of them missed."""

import json

import pytest
from harness.clients import s3_client
from harness.cluster import Cluster
from harness.made import made_bytes
from harness.names import fresh_name
from harness.process import wait_until

MIB = 1 << 20
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def sweeping():
    made = Cluster(settings={"RINGFORT_SWEEP_INTERVAL": "1s"}).start()
    yield made
    panics = made.panics()
    made.stop()
    assert not panics, panics


def swept_clean(cluster):
    """Waits until each node has made two more whole sweeps that found no difference; the sums before."""
    before = [cluster.metric(n, "ringfort_sweeps_total") for n in cluster.nodes]

    def probe():
        now = [
            tuple(cluster.metric(n, f"ringfort_sweep{name}") for name in ("s_total", "_differing", "_failed"))
            for n in cluster.nodes
        ]
        probe.last = now
        return all(s >= b + 2 and differing == 0 and failed == 0 for (s, differing, failed), b in zip(now, before, strict=True))

    wait_until(probe, "sweeps that find no difference", 120, 0.25)


def test_what_a_dead_node_missed_is_found_without_hints(sweeping):
    """The gateways that knew what it missed are killed too: their hints are lost, and nobody reads the objects."""
    s3 = s3_client(sweeping.endpoints[0], sweeping.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    old = {f"old/{i}": made_bytes(i, 3_000) for i in range(40)}
    for key, body in old.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    swept_clean(sweeping)
    sweeping.nodes[2].kill()
    bodies = {f"small/{i}": made_bytes(i, 1_000 + i) for i in range(60)}
    bodies |= {f"large/{i}": made_bytes(i, 5 * MIB + i) for i in range(3)}
    for key, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    for i in range(0, 40, 2):
        s3.delete_object(Bucket=bucket, Key=f"old/{i}")
        del old[f"old/{i}"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="multi")["UploadId"]
    part = made_bytes("part", 5 * MIB)
    etag = s3.upload_part(Bucket=bucket, Key="multi", UploadId=upload, PartNumber=1, Body=part)["ETag"]
    for gateway in sweeping.gateways:
        gateway.kill()
    # The node that saw everything keeps no hints either: they are the gateways' alone.
    sweeping.restart(sweeping.nodes[2])
    swept_clean(sweeping)
    sizes = [
        tuple(sweeping.metric(n, f"ringfort_disk_{name}") for name in ("rows", "chunks", "missing_chunks"))
        for n in sweeping.nodes
    ]
    assert len(set(sizes)) == 1 and sizes[0][2] == 0, sizes
    mended = [sweeping.metric(n, "ringfort_sweep_rows_mended_total") for n in sweeping.nodes]
    print(json.dumps({"test": "sweep", "sizes": sizes, "mended": mended}))
    assert sum(mended) > 0
    # The proof: with another node gone, every answer needs the one that lagged.
    sweeping.ensure_all_running()
    sweeping.nodes[0].kill()
    s3.complete_multipart_upload(
        Bucket=bucket, Key="multi", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
    )
    for key, body in (bodies | old | {"multi": part}).items():
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
    listed = {o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert listed == set(bodies) | set(old) | {"multi"}
    sweeping.ensure_all_running()


def test_a_deleted_chunk_does_not_come_back(sweeping):
    """A node that was away while large objects were deleted keeps their chunks; its neighbours do not fetch them again."""
    sweeping.ensure_all_running()
    s3 = s3_client(sweeping.endpoints[0], sweeping.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    swept_clean(sweeping)
    before = [sweeping.metric(n, "ringfort_disk_chunks") for n in sweeping.nodes]
    s3.put_object(Bucket=bucket, Key="large", Body=made_bytes("large", 9 * MIB))
    wait_until(
        lambda: [sweeping.metric(n, "ringfort_disk_chunks") for n in sweeping.nodes] == [b + 3 for b in before],
        "the chunks on all nodes",
        60,
    )
    sweeping.nodes[1].kill()
    s3.delete_object(Bucket=bucket, Key="large")
    wait_until(
        lambda: [sweeping.metric(sweeping.nodes[i], "ringfort_disk_chunks") for i in (0, 2)] == [before[0], before[2]],
        "the chunks gone, after the readers' grace",
        150,
        0.5,
    )
    sweeping.restart(sweeping.nodes[1])
    done = [sweeping.metric(n, "ringfort_sweeps_total") for n in sweeping.nodes]
    wait_until(
        lambda: all(sweeping.metric(n, "ringfort_sweeps_total") >= d + 3 for n, d in zip(sweeping.nodes, done, strict=True)),
        "three more sweeps",
        60,
    )
    now = [sweeping.metric(n, "ringfort_disk_chunks") for n in sweeping.nodes]
    assert (now[0], now[2]) == (before[0], before[2]), now
    assert sum(sweeping.metric(n, "ringfort_disk_missing_chunks") for n in sweeping.nodes) == 0
