"""Conditional reads and conditional writes: what is answered, and that a refused write did nothing."""

import datetime
import io

import pytest
from botocore.exceptions import ClientError
from harness.clients import error_of, s3_client
from harness.raw import RawConnection, request_bytes
from harness.sigv4 import Signer, sha256_hex

PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)
FUTURE = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)
WRONG = '"00000000000000000000000000000000"'


@pytest.fixture
def etag(s3, bucket):
    return s3.put_object(Bucket=bucket, Key="k", Body=b"old")["ETag"]


def read_status(call, **kwargs):
    try:
        return call(**kwargs)["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as e:
        return e.response["ResponseMetadata"]["HTTPStatusCode"]


# (conditions, status); ETAG stands for the object's own. RFC 9110 13.2.2 gives the order, the S3 GetObject page
# says that If-Match true wins over If-Unmodified-Since false, and If-None-Match false over If-Modified-Since true.
READS = [
    ({"IfMatch": "ETAG"}, 200),
    ({"IfMatch": "*"}, 200),
    ({"IfMatch": WRONG}, 412),
    ({"IfMatch": f"{WRONG}, ETAG"}, 200),
    ({"IfNoneMatch": "ETAG"}, 304),
    ({"IfNoneMatch": "*"}, 304),
    ({"IfNoneMatch": WRONG}, 200),
    ({"IfModifiedSince": PAST}, 200),
    ({"IfUnmodifiedSince": PAST}, 412),
    ({"IfUnmodifiedSince": FUTURE}, 200),
    ({"IfMatch": "ETAG", "IfUnmodifiedSince": PAST}, 200),
    ({"IfNoneMatch": "ETAG", "IfModifiedSince": PAST}, 304),
    ({"IfNoneMatch": WRONG, "IfModifiedSince": PAST}, 200),
    ({"IfMatch": WRONG, "IfNoneMatch": "ETAG"}, 412),
]


@pytest.mark.parametrize("conditions,status", READS, ids=lambda v: ascii(v)[:60])
@pytest.mark.parametrize("verb", ["get_object", "head_object"])
def test_conditional_read(s3, bucket, etag, verb, conditions, status):
    given = {k: v.replace("ETAG", etag) if isinstance(v, str) else v for k, v in conditions.items()}
    assert read_status(getattr(s3, verb), Bucket=bucket, Key="k", **given) == status


def test_not_modified_since_the_last_change_is_304(s3, bucket, etag):
    when = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert read_status(s3.get_object, Bucket=bucket, Key="k", IfModifiedSince=when) == 304
    assert read_status(s3.get_object, Bucket=bucket, Key="k", IfUnmodifiedSince=when) == 200


def test_304_names_the_etag(s3, bucket, etag):
    with pytest.raises(ClientError) as e:
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    assert e.value.response["ResponseMetadata"]["HTTPHeaders"]["etag"] == etag


def test_conditions_on_an_absent_key_are_404(s3, bucket):
    assert error_of(s3.get_object, Bucket=bucket, Key="no", IfMatch=WRONG) == (404, "NoSuchKey")
    assert error_of(s3.get_object, Bucket=bucket, Key="no", IfNoneMatch=WRONG) == (404, "NoSuchKey")


def body_of(s3, bucket, key="k"):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_put_if_none_match_creates_once(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"first", IfNoneMatch="*")
    failed = error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"second", IfNoneMatch="*")
    assert failed == (412, "PreconditionFailed")
    assert body_of(s3, bucket) == b"first"
    s3.delete_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"third", IfNoneMatch="*")
    assert body_of(s3, bucket) == b"third"


@pytest.mark.parametrize("size", [3, 200_000, 5 << 20])
def test_put_if_match_replaces_only_what_was_seen(s3, bucket, etag, size):
    new = s3.put_object(Bucket=bucket, Key="k", Body=b"n" * size, IfMatch=etag)["ETag"]
    failed = error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"lost" * size, IfMatch=etag)
    assert failed == (412, "PreconditionFailed")
    assert body_of(s3, bucket) == b"n" * size
    s3.put_object(Bucket=bucket, Key="k", Body=b"again", IfMatch=new)
    assert body_of(s3, bucket) == b"again"


def test_put_if_match_without_quotes(s3, bucket, etag):
    s3.put_object(Bucket=bucket, Key="k", Body=b"new", IfMatch=etag.strip('"'))
    assert body_of(s3, bucket) == b"new"


def test_put_if_match_on_an_absent_key_is_404(s3, bucket):
    assert error_of(s3.put_object, Bucket=bucket, Key="no", Body=b"", IfMatch=WRONG) == (404, "NoSuchKey")
    assert error_of(s3.head_object, Bucket=bucket, Key="no")[0] == 404


def test_delete_if_match(s3, bucket, etag):
    assert error_of(s3.delete_object, Bucket=bucket, Key="k", IfMatch=WRONG) == (412, "PreconditionFailed")
    assert body_of(s3, bucket) == b"old"
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    assert error_of(s3.head_object, Bucket=bucket, Key="k")[0] == 404


def test_delete_if_match_star_needs_an_object(s3, bucket, etag):
    s3.delete_object(Bucket=bucket, Key="k", IfMatch="*")
    status, code = error_of(s3.delete_object, Bucket=bucket, Key="k", IfMatch="*")
    assert (status, code) in ((412, "PreconditionFailed"), (404, "NoSuchKey"))


def test_delete_objects_judges_each_etag_by_itself(s3, bucket, etag):
    s3.put_object(Bucket=bucket, Key="other", Body=b"o")
    answer = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": "k", "ETag": etag}, {"Key": "other", "ETag": WRONG}]}
    )
    assert [d["Key"] for d in answer["Deleted"]] == ["k"]
    assert [(e["Key"], e["Code"]) for e in answer["Errors"]] == [("other", "PreconditionFailed")]
    assert body_of(s3, bucket, "other") == b"o"


def started(s3, bucket, key, body=b"part"):
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=body)
    return {
        "Bucket": bucket,
        "Key": key,
        "UploadId": upload,
        "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    }


def test_complete_if_none_match_leaves_the_upload_open_when_refused(s3, bucket, etag):
    complete = started(s3, bucket, "k")
    assert error_of(s3.complete_multipart_upload, IfNoneMatch="*", **complete) == (412, "PreconditionFailed")
    assert body_of(s3, bucket) == b"old"
    s3.delete_object(Bucket=bucket, Key="k")
    s3.complete_multipart_upload(IfNoneMatch="*", **complete)
    assert body_of(s3, bucket) == b"part"


def test_a_retried_complete_with_if_none_match_gets_its_own_success(s3, bucket):
    complete = started(s3, bucket, "fresh")
    first = s3.complete_multipart_upload(IfNoneMatch="*", **complete)
    assert s3.complete_multipart_upload(IfNoneMatch="*", **complete)["ETag"] == first["ETag"]


def test_complete_if_match(s3, bucket, etag):
    complete = started(s3, bucket, "k")
    assert error_of(s3.complete_multipart_upload, IfMatch=WRONG, **complete) == (412, "PreconditionFailed")
    s3.complete_multipart_upload(IfMatch=etag, **complete)
    assert body_of(s3, bucket) == b"part"


def test_copy_conditions_on_the_destination(s3, bucket, etag):
    s3.put_object(Bucket=bucket, Key="source", Body=b"src")
    copy = {"Bucket": bucket, "CopySource": {"Bucket": bucket, "Key": "source"}}
    assert error_of(s3.copy_object, Key="k", IfNoneMatch="*", **copy) == (412, "PreconditionFailed")
    assert error_of(s3.copy_object, Key="k", IfMatch=WRONG, **copy) == (412, "PreconditionFailed")
    assert body_of(s3, bucket) == b"old"
    s3.copy_object(Key="k", IfMatch=etag, **copy)
    s3.copy_object(Key="fresh", IfNoneMatch="*", **copy)
    assert body_of(s3, bucket) == body_of(s3, bucket, "fresh") == b"src"


def test_if_none_match_with_an_etag_on_put_is_not_offered(s3, bucket, etag):
    status, _ = error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"x", IfNoneMatch=WRONG)
    assert status in (501, 400)
    assert body_of(s3, bucket) == b"old"


def test_a_false_condition_is_told_before_the_body_is_asked_for(cluster, s3, bucket, etag):
    """A client that waits for 100 Continue gets its 412 at once; an SDK's later try waits for the register's word."""
    host, path = cluster.endpoints[0].split("//")[1], f"/{bucket}/k"
    body = b"x" * 100_000

    def send(*extra):
        signer = Signer(cluster.keys.access_key, cluster.keys.secret_key)
        headers = [("Host", host), ("x-amz-date", signer.date), ("x-amz-content-sha256", sha256_hex(body)), *extra]
        auth = signer.header_auth("PUT", path, [], headers, sha256_hex(body))
        headers += [("Authorization", auth), ("Content-Length", len(body)), ("Expect", "100-continue")]
        connection = RawConnection(host)
        connection.send(request_bytes("PUT", path, headers))
        return connection

    for condition in (("If-None-Match", "*"), ("If-Match", WRONG)):
        answer = send(condition).read_response("PUT")
        assert (answer.status, answer.code, answer.keeps_open) == (412, "PreconditionFailed", False)
    # It holds, or the client may find its own earlier success: the body is asked for.
    sdk = [("amz-sdk-invocation-id", "i"), ("amz-sdk-request", "attempt=2; max=3")]
    for extra in ([("If-Match", etag)], [("If-None-Match", "*"), *sdk]):
        connection = send(*extra)
        assert connection._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        connection.send(body)
        assert connection.read_response("PUT").status == (200 if len(extra) == 1 else 412)


def test_botocore_goes_on_after_an_early_refusal(cluster, s3, bucket, etag):
    """It finds a 412 where it waited for 100 Continue; its next requests are in step."""
    client = s3_client(cluster.endpoints[0], cluster.keys)

    def as_if_not_an_sdk(request, **_):
        for name in [n for n in request.headers if n.lower().startswith("amz-sdk")]:
            del request.headers[name]
        assert request.headers["Expect"]

    client.meta.events.register_last("before-send.s3.PutObject", as_if_not_an_sdk)
    for size in (10, 3 << 20):
        failed = error_of(client.put_object, Bucket=bucket, Key="k", Body=io.BytesIO(b"y" * size), IfNoneMatch="*")
        assert failed == (412, "PreconditionFailed")
        client.put_object(Bucket=bucket, Key="other", Body=io.BytesIO(b"z" * size), IfNoneMatch="*")
        client.delete_object(Bucket=bucket, Key="other")
    assert body_of(client, bucket) == b"old"
