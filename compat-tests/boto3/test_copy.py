"""CopyObject: directives, source conditions, odd sources, and what may not be copied onto itself."""

import datetime

import pytest
from harness.clients import error_of
from harness.made import made_bytes

PAST = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)
FUTURE = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.fixture
def source(s3, bucket):
    s3.put_object(
        Bucket=bucket, Key="src", Body=b"body", Metadata={"a": "1"}, ContentType="x/y", CacheControl="no-store"
    )
    return {"Bucket": bucket, "Key": "src"}


def test_copy_takes_body_headers_and_metadata(s3, bucket, source):
    answer = s3.copy_object(Bucket=bucket, Key="dst", CopySource=source)["CopyObjectResult"]
    got = s3.get_object(Bucket=bucket, Key="dst")
    assert answer["ETag"] == got["ETag"] and answer["LastModified"] == got["LastModified"]
    assert got["Body"].read() == b"body"
    assert (got["Metadata"], got["ContentType"], got["CacheControl"]) == ({"a": "1"}, "x/y", "no-store")


def test_replace_takes_only_what_the_request_says(s3, bucket, source):
    s3.copy_object(
        Bucket=bucket, Key="dst", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"}, ContentType="n/w"
    )
    got = s3.get_object(Bucket=bucket, Key="dst")
    assert (got["Metadata"], got["ContentType"]) == ({"b": "2"}, "n/w") and "CacheControl" not in got


def test_copy_directive_ignores_metadata_of_the_request(s3, bucket, source):
    s3.copy_object(Bucket=bucket, Key="dst", CopySource=source, MetadataDirective="COPY", Metadata={"b": "2"})
    assert s3.head_object(Bucket=bucket, Key="dst")["Metadata"] == {"a": "1"}


def test_onto_itself_needs_a_change(s3, bucket, source):
    assert error_of(s3.copy_object, Bucket=bucket, Key="src", CopySource=source) == (400, "InvalidRequest")
    s3.copy_object(Bucket=bucket, Key="src", CopySource=source, MetadataDirective="REPLACE", Metadata={"new": "1"})
    got = s3.get_object(Bucket=bucket, Key="src")
    assert got["Body"].read() == b"body" and got["Metadata"] == {"new": "1"}


def test_onto_itself_with_a_large_body(s3, bucket):
    body = made_bytes("self copy", 9 << 20)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    for i in range(3):
        s3.copy_object(
            Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k"},
            MetadataDirective="REPLACE", Metadata={"i": str(i)},
        )  # fmt: skip
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_a_copy_outlives_its_source(s3, bucket):
    body = made_bytes("outlives", 9 << 20)
    s3.put_object(Bucket=bucket, Key="src", Body=body)
    s3.copy_object(Bucket=bucket, Key="dst", CopySource={"Bucket": bucket, "Key": "src"})
    s3.delete_object(Bucket=bucket, Key="src")
    assert s3.get_object(Bucket=bucket, Key="dst")["Body"].read() == body


def test_between_buckets(s3, make_bucket):
    one, two = make_bucket(), make_bucket()
    s3.put_object(Bucket=one, Key="a/ü +%", Body=b"x")
    s3.copy_object(Bucket=two, Key="k", CopySource={"Bucket": one, "Key": "a/ü +%"})
    assert s3.get_object(Bucket=two, Key="k")["Body"].read() == b"x"


def test_source_with_a_leading_slash(s3, bucket, source):
    s3.copy_object(Bucket=bucket, Key="dst", CopySource=f"/{bucket}/src")
    assert s3.head_object(Bucket=bucket, Key="dst")["ContentLength"] == 4


def test_absent_sources(s3, bucket):
    assert error_of(s3.copy_object, Bucket=bucket, Key="d", CopySource={"Bucket": bucket, "Key": "no"}) == (
        404,
        "NoSuchKey",
    )
    status, code = error_of(s3.copy_object, Bucket=bucket, Key="d", CopySource={"Bucket": bucket + "-no", "Key": "k"})
    assert (status, code) == (404, "NoSuchBucket")
    assert error_of(s3.head_object, Bucket=bucket, Key="d")[0] == 404


CONDITIONS = [
    ({"CopySourceIfMatch": "ETAG"}, True),
    ({"CopySourceIfMatch": '"no"'}, False),
    ({"CopySourceIfNoneMatch": '"no"'}, True),
    ({"CopySourceIfNoneMatch": "ETAG"}, False),
    ({"CopySourceIfModifiedSince": PAST}, True),
    ({"CopySourceIfUnmodifiedSince": PAST}, False),
    ({"CopySourceIfUnmodifiedSince": FUTURE}, True),
    # The CopyObject page: If-Match true and Unmodified-Since false: copied.
    ({"CopySourceIfMatch": "ETAG", "CopySourceIfUnmodifiedSince": PAST}, True),
    # If-None-Match false and Modified-Since true: 412.
    ({"CopySourceIfNoneMatch": "ETAG", "CopySourceIfModifiedSince": PAST}, False),
]


@pytest.mark.parametrize("conditions,holds", CONDITIONS, ids=lambda v: ascii(v)[:70])
def test_source_conditions(s3, bucket, source, conditions, holds):
    etag = s3.head_object(**source)["ETag"]
    given = {k: etag if v == "ETAG" else v for k, v in conditions.items()}
    if holds:
        s3.copy_object(Bucket=bucket, Key="dst", CopySource=source, **given)
        assert s3.head_object(Bucket=bucket, Key="dst")["ETag"] == etag
    else:
        assert error_of(s3.copy_object, Bucket=bucket, Key="dst", CopySource=source, **given) == (
            412,
            "PreconditionFailed",
        )
        assert error_of(s3.head_object, Bucket=bucket, Key="dst")[0] == 404


def test_an_unknown_directive_is_refused(s3, bucket, source):
    failed = error_of(s3.copy_object, Bucket=bucket, Key="dst", CopySource=source, MetadataDirective="MERGE")
    assert failed == (400, "InvalidArgument")


def test_managed_copy_of_a_large_object_goes_by_parts(s3, bucket):
    from boto3.s3.transfer import TransferConfig

    body = made_bytes("managed", 17 << 20)
    s3.put_object(Bucket=bucket, Key="src", Body=body)
    parts = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
    s3.copy({"Bucket": bucket, "Key": "src"}, bucket, "dst", Config=parts)
    got = s3.get_object(Bucket=bucket, Key="dst")
    assert got["Body"].read() == body and got["ETag"].endswith('-3"')
