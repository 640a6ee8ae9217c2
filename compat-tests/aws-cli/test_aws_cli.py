"""awscli v1 as people use it: cp, mv, sync, ls, rm, mb, rb, presign, and s3api."""

import json
import urllib.request

import pytest
from harness.cli import AwsCli
from harness.made import made_bytes, make_tree, tree_digest
from harness.names import fresh_name


@pytest.fixture(params=["supported", "required"])
def aws(cluster, request):
    return AwsCli(
        cluster.endpoints[0],
        cluster.keys,
        f"request_checksum_calculation = when_{request.param}\nresponse_checksum_validation = when_{request.param}\n",
    )


def test_mb_ls_rb(aws):
    name = fresh_name()
    aws.run("s3", "mb", f"s3://{name}")
    assert name in aws.run("s3", "ls")
    aws.run("s3", "rb", f"s3://{name}")
    assert name not in aws.run("s3", "ls")


def test_rb_force_empties_first(aws):
    name = fresh_name()
    aws.run("s3", "mb", f"s3://{name}")
    aws.run("s3", "cp", "-", f"s3://{name}/a/b", input_bytes=b"x")
    assert aws.try_run("s3", "rb", f"s3://{name}").returncode != 0
    aws.run("s3", "rb", f"s3://{name}", "--force")


@pytest.mark.parametrize("size", [0, 1, 100_000, 64 << 20])
def test_cp_up_and_down(aws, bucket, tmp_path, size):
    body = made_bytes(size, size)
    (tmp_path / "up").write_bytes(body)
    aws.run("s3", "cp", str(tmp_path / "up"), f"s3://{bucket}/dir/k")
    aws.run("s3", "cp", f"s3://{bucket}/dir/k", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == body
    head = json.loads(aws.run("s3api", "head-object", "--bucket", bucket, "--key", "dir/k"))
    assert head["ContentLength"] == size and (size < (8 << 20) or head["ETag"].endswith('-8"'))


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32C", "SHA256"])
def test_cp_with_checksum_algorithms(aws, bucket, tmp_path, algorithm):
    body = made_bytes(algorithm, 17 << 20)
    (tmp_path / "up").write_bytes(body)
    done = aws.try_run("s3", "cp", str(tmp_path / "up"), f"s3://{bucket}/k", "--checksum-algorithm", algorithm)
    if done.returncode and b"botocore[crt]" in done.stderr:
        pytest.skip("this awscli has no CRT for the algorithm")
    assert done.returncode == 0, done.stderr
    aws.run("s3", "cp", f"s3://{bucket}/k", str(tmp_path / "down"), "--checksum-mode", "ENABLED")
    assert (tmp_path / "down").read_bytes() == body


def test_cp_streams_between_pipes(aws, bucket):
    aws.run("s3", "cp", "-", f"s3://{bucket}/piped", input_bytes=b"through a pipe")
    assert aws.run("s3", "cp", f"s3://{bucket}/piped", "-") == "through a pipe"


def test_cp_between_keys_and_mv(aws, bucket, tmp_path):
    (tmp_path / "f").write_bytes(made_bytes("mv", 9 << 20))
    aws.run("s3", "cp", str(tmp_path / "f"), f"s3://{bucket}/a")
    aws.run("s3", "cp", f"s3://{bucket}/a", f"s3://{bucket}/b c+ü")
    aws.run("s3", "mv", f"s3://{bucket}/a", f"s3://{bucket}/moved")
    aws.run("s3", "mv", f"s3://{bucket}/b c+ü", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "f").read_bytes()
    assert [line.split(None, 3)[3] for line in aws.run("s3", "ls", f"s3://{bucket}").splitlines()] == ["moved"]


def test_sync_up_down_and_delete(aws, bucket, tmp_path):
    up, down = tmp_path / "up", tmp_path / "down"
    make_tree(up, 60)
    before = tree_digest(up)
    aws.run("s3", "sync", str(up), f"s3://{bucket}/t")
    assert aws.run("s3", "sync", str(up), f"s3://{bucket}/t").strip() == "", "a second sync has nothing to do"
    aws.run("s3", "sync", f"s3://{bucket}/t", str(down))
    assert tree_digest(down) == before
    gone = sorted(before)[:5]
    for name in gone:
        (up / name).unlink()
    aws.run("s3", "sync", str(up), f"s3://{bucket}/t", "--delete")
    listed = aws.run("s3", "ls", f"s3://{bucket}/t/", "--recursive").splitlines()
    assert len(listed) == 55
    aws.run("s3", "sync", f"s3://{bucket}/t", str(down), "--delete")
    assert tree_digest(down) == tree_digest(up)
    aws.run("s3", "rm", f"s3://{bucket}/t", "--recursive")
    assert aws.try_run("s3", "ls", f"s3://{bucket}/t/", "--recursive").stdout == b""


def test_presign(aws, bucket):
    aws.run("s3", "cp", "-", f"s3://{bucket}/p q", input_bytes=b"signed")
    url = aws.run("s3", "presign", f"s3://{bucket}/p q", "--expires-in", "60").strip()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    assert opener.open(url, timeout=30).read() == b"signed"


def test_s3api_round(aws, bucket, tmp_path):
    (tmp_path / "f").write_bytes(b"api")
    api = lambda *args: json.loads(aws.run("s3api", *args, "--bucket", bucket) or "{}")  # noqa: E731
    put = api("put-object", "--key", "k", "--body", str(tmp_path / "f"), "--metadata", "a=1", "--content-type", "x/y")
    got = api("get-object", "--key", "k", str(tmp_path / "g"))
    assert got["ETag"] == put["ETag"] and got["Metadata"] == {"a": "1"} and (tmp_path / "g").read_bytes() == b"api"
    assert api("list-objects-v2")["Contents"][0]["Key"] == "k"
    assert api("list-objects")["Contents"][0]["Size"] == 3
    assert api("get-object-attributes", "--key", "k", "--object-attributes", "ObjectSize")["ObjectSize"] == 3
    assert api("get-bucket-location")["LocationConstraint"] is None
    upload = api("create-multipart-upload", "--key", "m")["UploadId"]
    mine = ("--key", "m", "--upload-id", upload)
    part = api("upload-part", *mine, "--part-number", "1", "--body", str(tmp_path / "f"))
    assert api("list-parts", *mine)["Parts"][0]["ETag"] == part["ETag"]
    assert api("list-multipart-uploads")["Uploads"][0]["UploadId"] == upload
    parts = json.dumps({"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert api("complete-multipart-upload", *mine, "--multipart-upload", parts)["ETag"].endswith('-1"')
    deleted = api("delete-objects", "--delete", json.dumps({"Objects": [{"Key": "k"}, {"Key": "m"}]}))
    assert sorted(d["Key"] for d in deleted["Deleted"]) == ["k", "m"]
    done = aws.try_run("s3api", "get-object", "--bucket", bucket, "--key", "k", str(tmp_path / "h"))
    assert done.returncode != 0 and b"NoSuchKey" in done.stderr
