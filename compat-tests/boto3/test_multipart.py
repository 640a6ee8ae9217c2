"""Multipart uploads: the whole life of one, paging of parts and uploads, part copies, and every wrong turn."""

import hashlib

import pytest
from harness.clients import error_of
from harness.made import made_bytes

MIN_PART = 5 << 20
BODIES = [made_bytes(f"part{i}", MIN_PART + i) for i in range(2)] + [b"the end"]


def start(s3, bucket, key="m", **kwargs):
    return s3.create_multipart_upload(Bucket=bucket, Key=key, **kwargs)["UploadId"]


def put_part(s3, bucket, upload, number, body, key="m"):
    part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
    return {"PartNumber": number, "ETag": part["ETag"]}


def complete(s3, bucket, upload, parts, key="m", **kwargs):
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **kwargs
    )


def test_parts_make_one_object(s3, bucket, cluster):
    upload = start(s3, bucket, ContentType="x/y", Metadata={"m": "1"}, CacheControl="no-store")
    # Out of order, with gaps in the numbers, one part twice.
    put_part(s3, bucket, upload, 7, b"replaced")
    parts = [put_part(s3, bucket, upload, n, b) for n, b in zip((9, 3, 7), (BODIES[2], BODIES[0], BODIES[1]))]
    parts.sort(key=lambda p: p["PartNumber"])
    assert error_of(s3.get_object, Bucket=bucket, Key="m") == (404, "NoSuchKey")
    done = complete(s3, bucket, upload, parts)
    digest = hashlib.md5(b"".join(hashlib.md5(b).digest() for b in BODIES)).hexdigest()
    assert done["ETag"] == f'"{digest}-3"'
    assert done["Bucket"] == bucket and done["Key"] == "m" and done["Location"]
    got = s3.get_object(Bucket=bucket, Key="m")
    assert got["Body"].read() == b"".join(BODIES)
    assert (got["ContentType"], got["Metadata"], got["CacheControl"]) == ("x/y", {"m": "1"}, "no-store")
    for number, body in enumerate(BODIES, 1):
        part = s3.get_object(Bucket=bucket, Key="m", PartNumber=number)
        assert part["PartsCount"] == 3 and part["Body"].read() == body
        assert s3.head_object(Bucket=bucket, Key="m", PartNumber=number)["ContentLength"] == len(body)
    assert error_of(s3.get_object, Bucket=bucket, Key="m", PartNumber=4)[0] == 416
    listed = s3.get_object_attributes(Bucket=bucket, Key="m", ObjectAttributes=["ObjectParts"])["ObjectParts"]
    assert [p["PartNumber"] for p in listed["Parts"]] == [1, 2, 3] and listed["TotalPartsCount"] == 3
    across = f"bytes={MIN_PART - 3}-{MIN_PART + 3}"
    whole = b"".join(BODIES)
    assert s3.get_object(Bucket=bucket, Key="m", Range=across)["Body"].read() == whole[MIN_PART - 3 : MIN_PART + 4]
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_only_the_listed_parts_are_in(s3, bucket):
    upload = start(s3, bucket)
    first = put_part(s3, bucket, upload, 1, b"kept")
    put_part(s3, bucket, upload, 2, b"left out")
    complete(s3, bucket, upload, [first])
    assert s3.get_object(Bucket=bucket, Key="m")["Body"].read() == b"kept"


def test_complete_twice_gives_the_same_answer(s3, bucket):
    upload = start(s3, bucket)
    parts = [put_part(s3, bucket, upload, 1, b"x")]
    first = complete(s3, bucket, upload, parts)
    assert complete(s3, bucket, upload, parts)["ETag"] == first["ETag"]


def test_completes_of_one_list_at_the_same_time_all_get_the_same_answer(s3, s3_other, bucket):
    from concurrent.futures import ThreadPoolExecutor

    # Whoever comes last meets parts that the first has begun to clear away: about one round in eight brings that about.
    with ThreadPoolExecutor(8) as pool:
        for _ in range(60):
            upload = start(s3, bucket)
            parts = [put_part(s3, bucket, upload, 1, b"x")]
            done = pool.map(lambda client: complete(client, bucket, upload, parts)["ETag"], [s3, s3_other] * 4)
            assert len(set(done)) == 1


def test_an_old_complete_again_does_not_undo_a_newer_put(s3, bucket):
    upload = start(s3, bucket)
    parts = [put_part(s3, bucket, upload, 1, b"old")]
    complete(s3, bucket, upload, parts)
    s3.put_object(Bucket=bucket, Key="m", Body=b"newer")
    complete(s3, bucket, upload, parts)
    assert s3.get_object(Bucket=bucket, Key="m")["Body"].read() == b"newer"


def test_abort_ends_the_upload(s3, bucket):
    upload = start(s3, bucket)
    parts = [put_part(s3, bucket, upload, 1, b"x")]
    s3.abort_multipart_upload(Bucket=bucket, Key="m", UploadId=upload)
    assert error_of(complete, s3, bucket, upload, parts) == (404, "NoSuchUpload")
    assert error_of(put_part, s3, bucket, upload, 2, b"y") == (404, "NoSuchUpload")
    assert error_of(s3.list_parts, Bucket=bucket, Key="m", UploadId=upload) == (404, "NoSuchUpload")
    assert error_of(s3.abort_multipart_upload, Bucket=bucket, Key="m", UploadId=upload) == (404, "NoSuchUpload")
    assert error_of(s3.get_object, Bucket=bucket, Key="m") == (404, "NoSuchKey")


def test_abort_after_complete_is_404_and_harmless(s3, bucket):
    upload = start(s3, bucket)
    complete(s3, bucket, upload, [put_part(s3, bucket, upload, 1, b"x")])
    assert error_of(s3.abort_multipart_upload, Bucket=bucket, Key="m", UploadId=upload) == (404, "NoSuchUpload")
    assert s3.get_object(Bucket=bucket, Key="m")["Body"].read() == b"x"


def test_wrong_lists_are_refused_and_the_upload_stays_open(s3, bucket):
    upload = start(s3, bucket)
    one, two = put_part(s3, bucket, upload, 1, BODIES[0]), put_part(s3, bucket, upload, 2, b"z")
    wrong = {"PartNumber": 1, "ETag": '"00000000000000000000000000000000"'}
    missing = {"PartNumber": 3, "ETag": one["ETag"]}
    assert error_of(complete, s3, bucket, upload, [wrong]) == (400, "InvalidPart")
    assert error_of(complete, s3, bucket, upload, [one, missing]) == (400, "InvalidPart")
    assert error_of(complete, s3, bucket, upload, [two, one]) == (400, "InvalidPartOrder")
    assert error_of(complete, s3, bucket, upload, [one, one]) == (400, "InvalidPartOrder")
    assert error_of(complete, s3, bucket, upload, []) == (400, "MalformedXML")
    assert error_of(s3.get_object, Bucket=bucket, Key="m") == (404, "NoSuchKey")
    complete(s3, bucket, upload, [one, two])


def test_a_small_part_that_is_not_the_last_is_refused(s3, bucket):
    upload = start(s3, bucket)
    parts = [put_part(s3, bucket, upload, 1, b"small"), put_part(s3, bucket, upload, 2, b"last")]
    assert error_of(complete, s3, bucket, upload, parts) == (400, "EntityTooSmall")


@pytest.mark.parametrize("number", [0, 10001, -1])
def test_part_numbers_go_from_1_to_10000(s3, bucket, number):
    upload = start(s3, bucket)
    assert error_of(put_part, s3, bucket, upload, number, b"x") == (400, "InvalidArgument")
    put_part(s3, bucket, upload, 10000, b"x")


def test_an_upload_belongs_to_its_key_and_bucket(s3, make_bucket):
    bucket, other = make_bucket(), make_bucket()
    upload = start(s3, bucket)
    assert error_of(put_part, s3, bucket, upload, 1, b"x", key="other") == (404, "NoSuchUpload")
    assert error_of(put_part, s3, other, upload, 1, b"x") == (404, "NoSuchUpload")
    assert error_of(put_part, s3, bucket, "made-up", 1, b"x") == (404, "NoSuchUpload")


def test_list_parts_pages(s3, bucket):
    upload = start(s3, bucket)
    etags = {n: put_part(s3, bucket, upload, n, b"p%d" % n)["ETag"] for n in range(1, 8)}
    page = s3.list_parts(Bucket=bucket, Key="m", UploadId=upload, MaxParts=3)
    assert page["IsTruncated"] and page["MaxParts"] == 3 and page["NextPartNumberMarker"] == 3
    assert page["StorageClass"] == "STANDARD" and page["Key"] == "m" and page["UploadId"] == upload
    seen = {}
    for page in s3.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="m", UploadId=upload, PaginationConfig={"PageSize": 3}
    ):
        seen.update({p["PartNumber"]: p["ETag"] for p in page["Parts"]})
        assert all(p["Size"] == 2 for p in page["Parts"])
    assert seen == etags
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="m", UploadId=upload, PartNumberMarker=7)


def test_list_uploads_pages_by_key_then_by_upload(s3, bucket):
    keys = ["a/1", "a/2", "a/2", "b", "c/x/1", "ü"]
    uploads = sorted((key, start(s3, bucket, key)) for key in keys)
    seen = []
    marker = {}
    for _ in range(10):
        page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=2, **marker)
        seen += [(u["Key"], u["UploadId"]) for u in page.get("Uploads", [])]
        if not page["IsTruncated"]:
            break
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert [k for k, _ in seen] == sorted(keys, key=str.encode)
    assert sorted(seen) == uploads
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in page["CommonPrefixes"]] == ["a/", "c/"]
    assert [u["Key"] for u in page["Uploads"]] == ["b", "ü"]
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")
    assert [u["Key"] for u in page["Uploads"]] == ["a/1", "a/2", "a/2"]


def test_upload_part_copy_whole_and_range(s3, bucket):
    source = made_bytes("copy source", MIN_PART + 1000)
    s3.put_object(Bucket=bucket, Key="source", Body=source)
    upload = start(s3, bucket)
    copy = {"Bucket": bucket, "Key": "m", "UploadId": upload, "CopySource": {"Bucket": bucket, "Key": "source"}}
    one = s3.upload_part_copy(PartNumber=1, **copy)["CopyPartResult"]
    two = s3.upload_part_copy(PartNumber=2, CopySourceRange="bytes=100-199", **copy)["CopyPartResult"]
    assert one["ETag"] == f'"{hashlib.md5(source).hexdigest()}"' and one["LastModified"]
    beyond = f"bytes=0-{len(source)}"
    status, code = error_of(s3.upload_part_copy, PartNumber=3, CopySourceRange=beyond, **copy)
    assert (status, code) in ((400, "InvalidArgument"), (416, "InvalidRange"))
    for bad in ("bytes=5-2", "bytes=0-", "bytes=-5", "0-1", "garbage"):
        assert error_of(s3.upload_part_copy, PartNumber=3, CopySourceRange=bad, **copy)[0] in (400, 416)
    parts = [{"PartNumber": n, "ETag": p["ETag"]} for n, p in ((1, one), (2, two))]
    complete(s3, bucket, upload, parts)
    assert s3.get_object(Bucket=bucket, Key="m")["Body"].read() == source + source[100:200]


def test_upload_part_copy_conditions(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="source", Body=b"src")["ETag"]
    upload = start(s3, bucket)
    copy = {"Bucket": bucket, "Key": "m", "UploadId": upload, "PartNumber": 1}
    copy["CopySource"] = {"Bucket": bucket, "Key": "source"}
    assert error_of(s3.upload_part_copy, CopySourceIfNoneMatch=etag, **copy) == (412, "PreconditionFailed")
    assert error_of(s3.upload_part_copy, CopySourceIfMatch='"no"', **copy) == (412, "PreconditionFailed")
    s3.upload_part_copy(CopySourceIfMatch=etag, **copy)


def test_a_zero_byte_only_part(s3, bucket):
    upload = start(s3, bucket)
    complete(s3, bucket, upload, [put_part(s3, bucket, upload, 1, b"")])
    assert s3.head_object(Bucket=bucket, Key="m")["ContentLength"] == 0


def test_attributes_page_through_the_parts(s3, bucket):
    upload = start(s3, bucket, ChecksumAlgorithm="SHA256")
    done = []
    for n, body in enumerate(BODIES, 1):
        part = s3.upload_part(
            Bucket=bucket, Key="m", UploadId=upload, PartNumber=n, Body=body, ChecksumAlgorithm="SHA256"
        )
        done.append({"PartNumber": n, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]})
    etag = complete(s3, bucket, upload, done)["ETag"]
    wanted = ["ETag", "ObjectParts", "ObjectSize", "StorageClass", "Checksum"]
    page = s3.get_object_attributes(Bucket=bucket, Key="m", ObjectAttributes=wanted, MaxParts=2)
    assert page["ETag"] == etag.strip('"') and page["ObjectSize"] == sum(map(len, BODIES))
    assert page["StorageClass"] == "STANDARD" and page["LastModified"]
    parts = page["ObjectParts"]
    assert parts["IsTruncated"] and [p["PartNumber"] for p in parts["Parts"]] == [1, 2]
    rest = s3.get_object_attributes(
        Bucket=bucket, Key="m", ObjectAttributes=["ObjectParts"], PartNumberMarker=parts["NextPartNumberMarker"]
    )["ObjectParts"]
    assert [p["PartNumber"] for p in rest["Parts"]] == [3] and not rest["IsTruncated"]
    assert rest["Parts"][0]["ChecksumSHA256"] == done[2]["ChecksumSHA256"]
