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


def s3api(aws, bucket):
    return lambda *args: json.loads(aws.run("s3api", *args, "--bucket", bucket) or "{}")


def refused(aws, *args):
    done = aws.try_run(*args)
    assert done.returncode != 0, f"aws {' '.join(args)} was accepted"
    return done.stderr.decode("utf-8", "replace")


def test_ls_in_its_forms(aws, bucket):
    for key in ("a/1", "a/2", "b", "ü/x"):
        aws.run("s3", "cp", "-", f"s3://{bucket}/{key}", input_bytes=key.encode() * 1000)
    lines = lambda *args: [line.split()[-1] for line in aws.run("s3", "ls", *args).splitlines() if line.strip()]  # noqa: E731
    assert lines(f"s3://{bucket}") == ["a/", "ü/", "b"]
    assert lines(f"s3://{bucket}/a/") == ["1", "2"]
    assert lines(f"s3://{bucket}/a") == ["a/"]
    assert lines(f"s3://{bucket}", "--recursive", "--page-size", "1") == ["a/1", "a/2", "b", "ü/x"]
    summary = aws.run("s3", "ls", f"s3://{bucket}", "--recursive", "--summarize", "--human-readable")
    assert "Total Objects: 4" in summary and "KiB" in summary
    assert "NoSuchBucket" in refused(aws, "s3", "ls", f"s3://{fresh_name()}")


def test_cp_recursive_with_filters(aws, bucket, tmp_path):
    up, down = tmp_path / "up", tmp_path / "down"
    make_tree(up, 30)
    aws.run("s3", "cp", str(up), f"s3://{bucket}/t", "--recursive", "--exclude", "*", "--include", "*.txt", "--include", "*.bin")
    aws.run("s3", "cp", f"s3://{bucket}/t", str(down), "--recursive", "--exclude", "*.bin")
    want = {name: digest for name, digest in tree_digest(up).items() if name.endswith(".txt")}
    assert want and tree_digest(down) == want
    aws.run("s3", "rm", f"s3://{bucket}/t", "--recursive", "--exclude", "*.txt")
    assert all(line.endswith(".txt") for line in aws.run("s3", "ls", f"s3://{bucket}/t", "--recursive").splitlines())
    aws.run("s3", "mv", f"s3://{bucket}/t", f"s3://{bucket}/moved", "--recursive")
    assert len(aws.run("s3", "ls", f"s3://{bucket}/moved/", "--recursive").splitlines()) == len(want)
    assert aws.try_run("s3", "ls", f"s3://{bucket}/t/").returncode != 0


def test_cp_sets_headers_and_a_copy_keeps_or_replaces_them(aws, bucket, tmp_path):
    (tmp_path / "page.html").write_bytes(b"<p>")
    aws.run(
        "s3", "cp", str(tmp_path / "page.html"), f"s3://{bucket}/page", "--metadata", "colour=blue,n=1",
        "--cache-control", "max-age=5", "--content-language", "de", "--content-disposition", "inline",
        "--expires", "2030-01-01T00:00:00Z", "--acl", "bucket-owner-full-control", "--storage-class", "STANDARD",
    )  # fmt: skip
    api = s3api(aws, bucket)
    head = api("head-object", "--key", "page")
    assert (head["Metadata"], head["CacheControl"]) == ({"colour": "blue", "n": "1"}, "max-age=5")
    assert (head["ContentLanguage"], head["ContentDisposition"], head["ContentType"]) == ("de", "inline", "text/html")
    aws.run("s3", "cp", f"s3://{bucket}/page", f"s3://{bucket}/kept")
    aws.run("s3", "cp", f"s3://{bucket}/page", f"s3://{bucket}/new", "--metadata-directive", "REPLACE", "--metadata", "z=2")
    assert api("head-object", "--key", "kept")["Metadata"] == head["Metadata"]
    assert api("head-object", "--key", "new")["Metadata"] == {"z": "2"}


def test_what_is_not_offered_is_refused_and_nothing_is_stored(aws, bucket, tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    for options in (["--sse", "AES256"], ["--acl", "public-read"], ["--sse", "aws:kms"]):
        assert "NotImplemented" in refused(aws, "s3", "cp", str(tmp_path / "f"), f"s3://{bucket}/f", *options)
    assert "InvalidStorageClass" in refused(aws, "s3", "cp", str(tmp_path / "f"), f"s3://{bucket}/f", "--storage-class", "GLACIER")
    enable = ["--versioning-configuration", "Status=Enabled"]
    assert "NotImplemented" in refused(aws, "s3api", "put-bucket-versioning", "--bucket", bucket, *enable)
    assert "NotImplemented" in refused(aws, "s3", "website", f"s3://{bucket}", "--index-document", "i.html")
    assert "Contents" not in s3api(aws, bucket)("list-objects-v2")


def test_sync_with_its_comparisons(aws, bucket, tmp_path):
    up = tmp_path / "up"
    make_tree(up, 12)
    target = f"s3://{bucket}/t"
    aws.run("s3", "sync", str(up), target, "--exclude", "*.dat")
    assert not any(line.endswith(".dat") for line in aws.run("s3", "ls", target, "--recursive").splitlines())
    aws.run("s3", "sync", str(up), target)
    changed = sorted(up.rglob("*.txt"))[0]
    changed.write_bytes(changed.read_bytes() + b"more")
    assert "(dryrun)" in aws.run("s3", "sync", str(up), target, "--dryrun")
    assert aws.run("s3", "sync", str(up), target, "--size-only").count("upload:") == 1
    other = f"s3://{bucket}/other"
    assert aws.run("s3", "sync", target, other).count("copy:") == 12
    assert aws.run("s3", "sync", target, other, "--size-only").strip() == ""


def test_reads_of_settings_and_versions(aws, bucket, tmp_path):
    api = s3api(aws, bucket)
    (tmp_path / "f").write_bytes(b"abc")
    api("put-object", "--key", "k", "--body", str(tmp_path / "f"))
    assert api("get-bucket-versioning") == {}
    assert api("get-bucket-logging") == {} and api("get-bucket-accelerate-configuration") == {}
    assert api("get-bucket-request-payment") == {"Payer": "BucketOwner"}
    assert api("get-bucket-acl")["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert api("get-object-acl", "--key", "k")["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert api("get-object-tagging", "--key", "k") == {"TagSet": []}
    for call, code in (("get-bucket-tagging", "NoSuchTagSet"), ("get-bucket-policy", "NoSuchBucketPolicy"),
                       ("get-bucket-cors", "NoSuchCORSConfiguration"), ("get-bucket-lifecycle-configuration", "NoSuchLifecycleConfiguration"),
                       ("get-public-access-block", "NoSuchPublicAccessBlockConfiguration"),
                       ("get-bucket-encryption", "ServerSideEncryptionConfigurationNotFoundError")):  # fmt: skip
        assert code in refused(aws, "s3api", call, "--bucket", bucket)
    [version] = api("list-object-versions")["Versions"]
    assert (version["Key"], version["VersionId"], version["IsLatest"]) == ("k", "null", True)
    assert api("delete-object", "--key", "k", "--version-id", "null")["VersionId"] == "null"
    assert "Versions" not in api("list-object-versions")


def test_s3api_ranges_conditions_parts_and_waiters(aws, bucket, tmp_path):
    api = s3api(aws, bucket)
    (tmp_path / "f").write_bytes(made_bytes("api", 6 << 20))
    out = str(tmp_path / "out")
    etag = api("put-object", "--key", "k", "--body", str(tmp_path / "f"))["ETag"]
    aws.run("s3api", "wait", "bucket-exists", "--bucket", bucket)
    aws.run("s3api", "wait", "object-exists", "--bucket", bucket, "--key", "k")
    got = api("get-object", "--key", "k", "--range", "bytes=5-9", out)
    assert got["ContentRange"] == f"bytes 5-9/{6 << 20}"
    assert (tmp_path / "out").read_bytes() == made_bytes("api", 6 << 20)[5:10]
    key = ["--bucket", bucket, "--key", "k"]
    assert "304" in refused(aws, "s3api", "get-object", *key, "--if-none-match", etag, out)
    assert "PreconditionFailed" in refused(aws, "s3api", "get-object", *key, "--if-match", '"0"', out)
    again = ["put-object", *key, "--body", str(tmp_path / "f")]
    assert "PreconditionFailed" in refused(aws, "s3api", *again, "--if-none-match", "*")
    upload = api("create-multipart-upload", "--key", "m", "--content-type", "x/y")["UploadId"]
    mine = ("--key", "m", "--upload-id", upload)
    copy = ("--copy-source", f"{bucket}/k", "--copy-source-range")
    one = api("upload-part-copy", *mine, *copy, f"bytes=0-{(5 << 20) - 1}", "--part-number", "1")["CopyPartResult"]
    two = api("upload-part-copy", *mine, *copy, f"bytes={5 << 20}-{(6 << 20) - 1}", "--part-number", "2")["CopyPartResult"]
    far = ["s3api", "upload-part-copy", "--bucket", bucket, *mine, *copy, "bytes=0-99999999", "--part-number", "3"]
    assert "InvalidRange" in refused(aws, *far)
    parts = [{"PartNumber": n, "ETag": part["ETag"]} for n, part in enumerate((one, two), 1)]
    api("complete-multipart-upload", *mine, "--multipart-upload", json.dumps({"Parts": parts}))
    head = api("head-object", "--key", "m", "--part-number", "2")
    assert (head["ContentLength"], head["PartsCount"], head["ContentType"]) == (1 << 20, 2, "x/y")
    api("get-object", "--key", "m", out)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "f").read_bytes()
    copied = api("copy-object", "--key", "c", "--copy-source", f"{bucket}/m")["CopyObjectResult"]
    assert api("head-object", "--key", "c")["ETag"] == copied["ETag"]
    gone = api("create-multipart-upload", "--key", "gone")["UploadId"]
    api("abort-multipart-upload", "--key", "gone", "--upload-id", gone)
    assert "NoSuchUpload" in refused(aws, "s3api", "list-parts", "--bucket", bucket, "--key", "gone", "--upload-id", gone)
    api("delete-object", "--key", "k")
    aws.run("s3api", "wait", "object-not-exists", *key)


def test_listings_in_pages(aws, bucket):
    for i in range(7):
        aws.run("s3", "cp", "-", f"s3://{bucket}/p/{i}", input_bytes=b"x")
    api = s3api(aws, bucket)
    for call, shown in (("list-objects-v2", "Contents"), ("list-objects", "Contents"), ("list-object-versions", "Versions")):
        page = api(call, "--max-items", "3", "--page-size", "2")
        assert [o["Key"] for o in page[shown]] == ["p/0", "p/1", "p/2"]
        rest = api(call, "--starting-token", page["NextToken"])
        assert [o["Key"] for o in rest[shown]] == [f"p/{i}" for i in range(3, 7)]
        assert len(api(call, "--page-size", "2")[shown]) == 7
    assert api("list-objects-v2", "--prefix", "p/", "--start-after", "p/4", "--delimiter", "/")["Contents"][0]["Key"] == "p/5"


def test_errors_name_their_reason(aws, bucket, tmp_path):
    assert "404" in refused(aws, "s3", "cp", f"s3://{bucket}/none", str(tmp_path / "x"))
    (tmp_path / "f").write_bytes(b"x")
    assert "NoSuchBucket" in refused(aws, "s3", "cp", str(tmp_path / "f"), f"s3://{fresh_name()}/k")
    aws.run("s3", "cp", str(tmp_path / "f"), f"s3://{bucket}/k")
    assert "BucketNotEmpty" in refused(aws, "s3", "rb", f"s3://{bucket}")
    assert "404" in refused(aws, "s3api", "head-bucket", "--bucket", fresh_name())
    wrong = AwsCli(aws.endpoint, type("Keys", (), {"access_key": aws.env["AWS_ACCESS_KEY_ID"], "secret_key": "x" * 40}))
    assert "SignatureDoesNotMatch" in refused(wrong, "s3", "ls", f"s3://{bucket}")
