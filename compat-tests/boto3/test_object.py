"""PutObject, GetObject, HeadObject, DeleteObject: bodies, ranges, headers, metadata, errors."""

import datetime
import hashlib
import http.client
import io

import pytest
from botocore.exceptions import ClientError
from harness.clients import error_of
from harness.made import made_bytes


@pytest.mark.parametrize("size", [0, 1, 4095, 65536, 131072, 131073, 1 << 20, (4 << 20) - 1, 4 << 20, (9 << 20) + 17])
def test_a_body_reads_back_byte_for_byte(s3, bucket, size):
    body = made_bytes(size, size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["ContentLength"] == size and got["ETag"] == put["ETag"]
    assert got["Body"].read() == body
    assert got["AcceptRanges"] == "bytes"
    assert got["ContentType"] == "binary/octet-stream"
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["ContentLength"] == size and head["LastModified"] == got["LastModified"]


def test_last_modified_is_now(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    age = datetime.datetime.now(datetime.timezone.utc) - s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert abs(age.total_seconds()) < 60


def test_an_overwrite_replaces_body_headers_and_metadata(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old old", Metadata={"a": "1"}, ContentType="text/plain")
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"new", {}, "binary/octet-stream")


@pytest.mark.parametrize(
    "asked,first,last",
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-4", 0, 4),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=100-99999999", 100, None),
        ("bytes=-99999999", 0, None),
        ("bytes=4194300-4194310", 4194300, 4194310),
        ("bytes=131071-131073", 131071, 131073),
    ],
)
def test_a_range_gives_just_those_bytes(s3, bucket, asked, first, last):
    body = made_bytes("range", (4 << 20) + 100)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    first = first if first >= 0 else len(body) + first
    last = len(body) - 1 if last is None else last
    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/{len(body)}"
    assert got["ContentLength"] == last - first + 1
    assert got["Body"].read() == body[first : last + 1]
    head = s3.head_object(Bucket=bucket, Key="k", Range=asked)
    assert head["ResponseMetadata"]["HTTPStatusCode"] == 206 and head["ContentLength"] == last - first + 1


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_beyond_the_end_is_416_with_the_size(s3, bucket, asked):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", Range=asked)
    assert e.value.response["ResponseMetadata"]["HTTPStatusCode"] == 416
    assert e.value.response["Error"]["Code"] == "InvalidRange"
    assert e.value.response["Error"].get("ActualObjectSize") == "10"


def test_a_range_is_passed_over_where_if_range_names_another_object(s3, bucket):
    def get(validator):
        def add(request, **_):
            request.headers["If-Range"] = validator

        s3.meta.events.register("before-sign.s3.GetObject", add, unique_id="if-range")
        try:
            got = s3.get_object(Bucket=bucket, Key="k", Range="bytes=2-4")
            return got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()
        finally:
            s3.meta.events.unregister("before-sign.s3.GetObject", unique_id="if-range")

    old = s3.put_object(Bucket=bucket, Key="k", Body=b"another 01")["ETag"]
    new = s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")["ETag"]
    assert get(new) == (206, b"234")
    # A download that is taken up again must not put two objects together.
    assert get(old) == (200, b"0123456789")
    modified = s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"]["last-modified"]
    assert get(modified) == (206, b"234")
    assert get("Sat, 01 Jan 2000 00:00:00 GMT") == (200, b"0123456789")


def test_a_range_of_an_empty_object_is_416(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert error_of(s3.get_object, Bucket=bucket, Key="k", Range="bytes=0-") == (416, "InvalidRange")


def test_part_number_one_of_a_simple_object_is_the_whole(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=1)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["Body"].read() == b"0123456789" and got["ContentRange"] == "bytes 0-9/10"
    assert error_of(s3.get_object, Bucket=bucket, Key="k", PartNumber=2)[0] == 416
    assert error_of(s3.get_object, Bucket=bucket, Key="k", PartNumber=1, Range="bytes=0-1") == (400, "InvalidRequest")


STANDARD = {
    "CacheControl": "max-age=60, private",
    "ContentDisposition": 'attachment; filename="a b.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de, en",
    "ContentType": "text/html; charset=utf-8",
}


def test_standard_headers_come_back_as_stored(s3, bucket):
    expires = datetime.datetime(2031, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Expires=expires, **STANDARD)
    for got in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        for name, value in STANDARD.items():
            assert got[name] == value
        assert got["ResponseMetadata"]["HTTPHeaders"]["expires"] == "Tue, 06 May 2031 07:08:09 GMT"


def test_response_overrides_change_the_answer_only(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **STANDARD)
    when = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    overrides = {
        "ResponseCacheControl": "no-cache",
        "ResponseContentDisposition": "inline; filename=\"ü\"".encode("ascii", "xmlcharrefreplace").decode(),
        "ResponseContentEncoding": "identity",
        "ResponseContentLanguage": "fr",
        "ResponseContentType": "application/x-test",
        "ResponseExpires": when,
    }
    for call in (s3.get_object, s3.head_object):
        got = call(Bucket=bucket, Key="k", **overrides)
        for name, value in overrides.items():
            if name != "ResponseExpires":
                assert got[name.removeprefix("Response")] == value
        assert got["ResponseMetadata"]["HTTPHeaders"]["expires"] == "Wed, 02 Jan 2030 03:04:05 GMT"
    assert s3.get_object(Bucket=bucket, Key="k")["ContentType"] == STANDARD["ContentType"]


def test_user_metadata_comes_back(s3, bucket):
    metadata = {"a": "1", "long-name_with.dots": "v" * 500, "spaces": "two  words", "empty": ""}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata)
    got = s3.head_object(Bucket=bucket, Key="k")["Metadata"]
    # Runs of blanks may be folded on the way (SigV4 signs them folded).
    assert {k: " ".join(v.split()) for k, v in got.items()} == {k: " ".join(v.split()) for k, v in metadata.items()}


def test_metadata_names_are_lower_case(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"MiXed": "Value"})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"mixed": "Value"}


def test_metadata_above_2048_bytes_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "v" * 2047})
    assert error_of(s3.put_object, Bucket=bucket, Key="k2", Body=b"x", Metadata={"a": "v" * 2048}) == (
        400,
        "MetadataTooLarge",
    )
    assert error_of(s3.head_object, Bucket=bucket, Key="k2")[0] == 404


def test_delete_is_idempotent_and_final(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for _ in range(2):
        assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert error_of(s3.get_object, Bucket=bucket, Key="k") == (404, "NoSuchKey")
    assert error_of(s3.head_object, Bucket=bucket, Key="k")[0] == 404
    s3.put_object(Bucket=bucket, Key="k", Body=b"again")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"again"


def test_absent_things_are_404(s3, bucket):
    nowhere = bucket + "-nowhere"
    assert error_of(s3.get_object, Bucket=bucket, Key="no") == (404, "NoSuchKey")
    assert error_of(s3.get_object, Bucket=nowhere, Key="no") == (404, "NoSuchBucket")
    assert error_of(s3.put_object, Bucket=nowhere, Key="no", Body=b"x") == (404, "NoSuchBucket")
    assert error_of(s3.delete_object, Bucket=nowhere, Key="no") == (404, "NoSuchBucket")
    assert error_of(s3.head_object, Bucket=nowhere, Key="no")[0] == 404
    assert error_of(s3.list_objects_v2, Bucket=nowhere) == (404, "NoSuchBucket")
    assert error_of(s3.list_objects, Bucket=nowhere) == (404, "NoSuchBucket")


def test_an_error_has_code_message_resource_and_request_id(s3, bucket):
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="no such/key & <b>")
    error, meta = e.value.response["Error"], e.value.response["ResponseMetadata"]
    assert error["Code"] == "NoSuchKey" and error["Message"]
    assert error.get("Key", "no such/key & <b>") == "no such/key & <b>"
    assert bucket in e.value.response.get("Resource", error.get("Resource", bucket))
    assert meta["RequestId"] and meta["HTTPHeaders"]["x-amz-request-id"] == meta["RequestId"]
    assert meta["HTTPHeaders"]["content-type"] == "application/xml"


def test_error_xml_has_the_resource(s3, bucket, cluster):
    """The plain document, as botocore drops some elements."""
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "nein"})
    host = cluster.endpoints[0].split("//")[1]
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", url.split(host, 1)[1])
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    assert answer.status == 404
    for element in ("<Code>NoSuchKey</Code>", "<Message>", "<Resource>", "<RequestId>"):
        assert element in body, body


def test_every_answer_has_its_own_request_id(s3, bucket):
    ids = {s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["RequestId"] for _ in range(20)}
    assert len(ids) == 20


def test_content_md5_is_checked(s3, bucket):
    right = __import__("base64").b64encode(hashlib.md5(b"x").digest()).decode()
    wrong = __import__("base64").b64encode(hashlib.md5(b"y").digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5=right)
    assert error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"x", ContentMD5=wrong) == (400, "BadDigest")
    assert error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"x", ContentMD5="zzz") == (400, "InvalidDigest")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_upload_file_and_download_file_go_multipart(s3, bucket, tmp_path):
    body = made_bytes("transfer", 20 << 20)
    (tmp_path / "up").write_bytes(body)
    s3.upload_file(str(tmp_path / "up"), bucket, "k", ExtraArgs={"ContentType": "x/y", "Metadata": {"m": "1"}})
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["ETag"].endswith('-3"') and head["ContentType"] == "x/y" and head["Metadata"] == {"m": "1"}
    s3.download_file(bucket, "k", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == body


def test_upload_fileobj_of_unknown_length(s3, bucket):
    class NoSeek(io.RawIOBase):
        def __init__(self, body):
            self.inner = io.BytesIO(body)

        def readable(self):
            return True

        def read(self, n=-1):
            return self.inner.read(n)

    body = made_bytes("fileobj", 9 << 20)
    s3.upload_fileobj(NoSeek(body), bucket, "k")
    out = io.BytesIO()
    s3.download_fileobj(bucket, "k", out)
    assert out.getvalue() == body


KEYS = [
    "a", "a/", "a//b", "a/b", "/a", "./a", "a/./b", "a/../b", "//", "a b", "a+b", "a%2Bb", "a%20b", "a%2e",
    "ü", "u\u0308", "日本語/テスト", "😀", "\u200f", "a\tb", "a\\b", "a?b", "a#b", "a&b=c;d", "a'b\"c", "<a>&amp;",
    "~", "*", "a:b@c$d,e!f(g)", "x.meta", "x/xl.meta", "null", ".", "..", "k" * 1024, "é" * 512, "語" * 341 + "x",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=lambda k: ascii(k)[:30])
def test_any_key_is_its_own(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(key.encode())
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert error_of(s3.get_object, Bucket=bucket, Key=key) == (404, "NoSuchKey")


def test_a_key_of_1025_bytes_is_refused(s3, bucket):
    for key in ("k" * 1025, "é" * 513):
        assert error_of(s3.put_object, Bucket=bucket, Key=key, Body=b"") == (400, "KeyTooLongError")
