"""What was deleted, cut off or left behind goes from every disk, and nothing of it comes back."""

import http.client
import json
import urllib.parse

import pytest
from botocore.exceptions import ClientError
from harness.clients import s3_client
from harness.cluster import Cluster
from harness.made import made_bytes
from harness.names import fresh_name
from harness.process import wait_until

MIB = 1 << 20
# Two objects of three chunks, and two parts of two.
LIVING_CHUNKS = 10
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def collecting():
    """Nodes that collect every second what is a few seconds old; the grace for readers stays a minute."""
    made = Cluster(
        settings={
            "RINGFORT_SWEEP_INTERVAL": "1s",
            "RINGFORT_GC_INTERVAL": "1s",
            "RINGFORT_TOMBSTONE_AGE": "5s",
            "RINGFORT_ORPHAN_AGE": "20s",
        }
    ).start()
    yield made
    panics = made.panics()
    made.stop()
    assert not panics, panics


@pytest.fixture(scope="module")
def living(collecting):
    """Objects that are there all the time, and must be the same at the end of each test."""
    s3 = s3_client(collecting.endpoints[0], collecting.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    bodies = {f"small/{i}": made_bytes(i, 500 + i) for i in range(30)}
    bodies |= {f"large/{i}": made_bytes(i, 9 * MIB + i) for i in range(2)}
    for key, body in bodies.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="multi")["UploadId"]
    etags = []
    for number in (1, 2):
        part = made_bytes(number, 5 * MIB + number)
        bodies["multi"] = bodies.get("multi", b"") + part
        etag = s3.upload_part(Bucket=bucket, Key="multi", UploadId=upload, PartNumber=number, Body=part)["ETag"]
        etags.append({"PartNumber": number, "ETag": etag})
    # A part of it is uploaded twice: what it replaced is garbage.
    again = s3.upload_part(Bucket=bucket, Key="multi", UploadId=upload, PartNumber=2, Body=part)["ETag"]
    assert again == etags[1]["ETag"]
    s3.complete_multipart_upload(Bucket=bucket, Key="multi", UploadId=upload, MultipartUpload={"Parts": etags})
    # The replaced part's chunks stay a minute for readers: until they are gone no count is one to come back to.
    wait_until(
        lambda: all(chunks == LIVING_CHUNKS for _, chunks in sizes(collecting)),
        "the chunks of the replaced part gone",
        200,
        0.5,
    )
    return bucket, bodies


def sizes(cluster):
    names = ("rows", "chunks")
    return [tuple(cluster.metric(n, f"ringfort_disk_{name}") for name in names) for n in cluster.nodes]


def gc(cluster, name):
    return sum(cluster.metric(n, f"ringfort_gc_{name}") for n in cluster.nodes)


def settled(cluster, expected=None, timeout_seconds=300):
    """Waits until all disks hold the same, three looks long, and that is what is expected, if it is known."""
    seen = []

    def probe():
        seen.append(sizes(cluster))
        probe.last = seen[-1]
        return (
            len(seen) >= 3
            and seen[-1] == seen[-2] == seen[-3]
            and len(set(seen[-1])) == 1
            and expected in (None, seen[-1][0])
        )

    probe.last = None
    try:
        wait_until(probe, f"every disk to hold {expected}", timeout_seconds, 1.5)
    except AssertionError as e:
        raise AssertionError(f"{e}: {probe.last}") from e
    return seen[-1][0]


def check_living(cluster, living):
    bucket, bodies = living
    for endpoint in cluster.endpoints:
        s3 = s3_client(endpoint, cluster.keys)
        for key, body in bodies.items():
            assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body, key
        listed = {o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]}
        assert listed == set(bodies)


def test_300_deletes_that_a_node_missed_are_collected_on_all_and_none_comes_back(collecting, living):
    s3 = s3_client(collecting.endpoints[0], collecting.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    base = settled(collecting)
    keys = [f"doomed/{i}" for i in range(300)]
    for i, key in enumerate(keys):
        s3.put_object(Bucket=bucket, Key=key, Body=made_bytes(i, 200 + i))
    settled(collecting, (base[0] + 300, base[1]))
    collecting.nodes[2].kill()
    dropped = gc_of_living_nodes(collecting)
    for key in keys:
        s3.delete_object(Bucket=bucket, Key=key)
    # Older than the age, and yet nothing goes while a member is away: two passes each say that they wait.
    wait_until(
        lambda: all(collecting.metric(n, "ringfort_gc_partitions_waiting") > 0 for n in collecting.nodes[:2]),
        "passes that wait for the node that is away",
        60,
        0.5,
    )
    rows = [collecting.metric(n, "ringfort_disk_rows") for n in collecting.nodes[:2]]
    assert rows == [base[0] + 300] * 2 and gc_of_living_nodes(collecting) == dropped
    collecting.restart(collecting.nodes[2])
    settled(collecting, base)
    assert gc(collecting, "rows_dropped_total") >= 300
    # With another node gone, every answer needs the one that was away.
    collecting.nodes[0].kill()
    for endpoint in collecting.endpoints:
        s3 = s3_client(endpoint, collecting.keys)
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
        for key in keys[::10]:
            with pytest.raises(ClientError) as refused:
                s3.head_object(Bucket=bucket, Key=key)
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    collecting.ensure_all_running()
    check_living(collecting, living)
    print(json.dumps({"test": "garbage, deletes", "rows_dropped": gc(collecting, "rows_dropped_total")}))


def gc_of_living_nodes(cluster):
    return sum(cluster.metric(n, "ringfort_gc_rows_dropped_total") for n in cluster.nodes[:2])


def test_what_an_upload_left_behind_that_was_cut_off_with_its_gateway_goes(collecting, living):
    collecting.ensure_all_running()
    bucket, _ = living
    base = settled(collecting)
    orphans = gc(collecting, "orphans_total")
    s3 = s3_client(collecting.endpoints[1], collecting.keys)
    url = urllib.parse.urlsplit(s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "cut-off"}))
    body = made_bytes("cut", 40 * MIB)
    upload = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    upload.putrequest("PUT", f"{url.path}?{url.query}")
    upload.putheader("Content-Length", str(len(body)))
    upload.endheaders()
    upload.send(body[: len(body) // 2])
    wait_until(
        lambda: all(collecting.metric(n, "ringfort_disk_chunks") >= base[1] + 4 for n in collecting.nodes),
        "chunks of the upload on all nodes",
        60,
        0.25,
    )
    collecting.gateways[1].kill()
    upload.close()
    left = sizes(collecting)
    assert all(chunks > base[1] for _, chunks in left), left
    collecting.restart(collecting.gateways[1])
    settled(collecting, base)
    assert gc(collecting, "orphans_total") > orphans
    check_living(collecting, living)
    print(json.dumps({"test": "garbage, orphans", "left": left, "base": base}))


def test_a_removed_bucket_leaves_no_rows_and_no_chunks(collecting, living):
    collecting.ensure_all_running()
    base = settled(collecting)
    s3 = s3_client(collecting.endpoints[0], collecting.keys)
    bucket = fresh_name()
    s3.create_bucket(Bucket=bucket)
    for i in range(20):
        s3.put_object(Bucket=bucket, Key=f"k{i}", Body=made_bytes(i, 300))
    for number, key in enumerate(("open/1", "open/2")):
        upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=made_bytes(number, 5 * MIB))
    for i in range(20):
        s3.delete_object(Bucket=bucket, Key=f"k{i}")
    full = settled(collecting)
    assert full[1] > base[1]
    s3.delete_bucket(Bucket=bucket)
    settled(collecting, base)
    assert gc(collecting, "rows_buried_total") > 0
    # The name made anew is an empty bucket.
    s3.create_bucket(Bucket=bucket)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    s3.delete_bucket(Bucket=bucket)
    check_living(collecting, living)
    print(json.dumps({"test": "garbage, removed bucket", "full": full, "base": base}))
