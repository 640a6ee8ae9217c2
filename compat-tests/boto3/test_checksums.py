"""The five checksum algorithms: as header, as trailer, composite and full object, and what is said about them later."""

import base64
import hashlib
import zlib

import pytest
from awscrt import checksums as crt
from harness.clients import error_of
from harness.made import made_bytes
from harness.raw import RawConnection, request_bytes
from harness.sigv4 import (
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    Signer,
    signed_chunks,
    unsigned_chunks,
)

COMPUTE = {
    "CRC32": lambda b: zlib.crc32(b).to_bytes(4, "big"),
    "CRC32C": lambda b: crt.crc32c(b).to_bytes(4, "big"),
    "CRC64NVME": lambda b: crt.crc64nvme(b).to_bytes(8, "big"),
    "SHA1": lambda b: hashlib.sha1(b).digest(),
    "SHA256": lambda b: hashlib.sha256(b).digest(),
}
ALGORITHMS = list(COMPUTE)
PART_BYTES = 5 << 20


def checksum(algorithm, body):
    return base64.b64encode(COMPUTE[algorithm](body)).decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_computed_by_the_sdk_and_given_back_on_demand(s3, bucket, algorithm):
    field, want = f"Checksum{algorithm}", checksum(algorithm, b"hello")
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
    assert put[field] == want
    for call in (s3.get_object, s3.head_object):
        got = call(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert got[field] == want and got["ChecksumType"] == "FULL_OBJECT"
    assert field not in s3.head_object(Bucket=bucket, Key="k")
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Checksum"])
    assert attributes["Checksum"][field] == want
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert listed["ChecksumAlgorithm"] == [algorithm]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_one_is_refused_and_nothing_stored(s3, bucket, algorithm):
    wrong = {f"Checksum{algorithm}": checksum(algorithm, b"other")}
    status, code = error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"hello", **wrong)
    assert (status, code) == (400, "BadDigest")
    assert error_of(s3.head_object, Bucket=bucket, Key="k")[0] == 404


def test_without_any_checksum_the_object_still_has_crc64nvme(s3_plain, bucket):
    """S3 adds CRC64NVME of its own when the client sends none (since December 2024)."""
    s3_plain.put_object(Bucket=bucket, Key="k", Body=b"hello")
    got = s3_plain.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["ChecksumCRC64NVME"] == checksum("CRC64NVME", b"hello") and got["ChecksumType"] == "FULL_OBJECT"


@pytest.fixture(scope="session")
def s3_plain(cluster):
    from harness.clients import s3_client

    return s3_client(
        cluster.endpoints[0],
        cluster.keys,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def put_streaming(cluster, bucket, key, body, trailers, mode):
    host = cluster.endpoints[0].split("//")[1]
    signer = Signer(cluster.keys.access_key, cluster.keys.secret_key)
    path = f"/{bucket}/{key}"
    pieces = [body[i : i + 65536] for i in range(0, len(body), 65536)]
    headers = [
        ("Host", host),
        ("x-amz-date", signer.date),
        ("x-amz-content-sha256", mode),
        ("x-amz-decoded-content-length", str(len(body))),
        ("x-amz-trailer", ",".join(k for k, _ in trailers)),
        ("content-encoding", "aws-chunked"),
    ]
    auth = signer.header_auth("PUT", path, [], headers, mode)
    if mode == STREAMING_SIGNED_TRAILER:
        data = signed_chunks(signer, auth.rpartition("=")[2], pieces, trailers)
    else:
        data = unsigned_chunks(pieces, trailers)
    headers += [("Authorization", auth), ("Content-Length", str(len(data)))]
    connection = RawConnection(host)
    connection.send(request_bytes("PUT", path, headers, data))
    answer = connection.read_response()
    connection.close()
    return answer


@pytest.mark.parametrize("mode", [STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_as_a_trailer(s3, bucket, cluster, algorithm, mode):
    body = made_bytes(algorithm, 200_001)
    name = f"x-amz-checksum-{algorithm.lower()}"
    answer = put_streaming(cluster, bucket, "k", body, [(name, checksum(algorithm, body))], mode)
    assert answer.status == 200, answer
    assert answer.header(name) == checksum(algorithm, body)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body and got[f"Checksum{algorithm}"] == checksum(algorithm, body)
    assert got.get("ContentEncoding", "") == "", "aws-chunked is no encoding of the object"
    refused = put_streaming(cluster, bucket, "k2", body, [(name, checksum(algorithm, b"other"))], mode)
    assert (refused.status, refused.code) == (400, "BadDigest")
    assert error_of(s3.head_object, Bucket=bucket, Key="k2")[0] == 404


@pytest.mark.parametrize("mode", [STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER])
def test_an_empty_body_with_a_trailer(s3, bucket, cluster, mode):
    answer = put_streaming(cluster, bucket, "k", b"", [("x-amz-checksum-crc32", checksum("CRC32", b""))], mode)
    assert answer.status == 200, answer
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b""


def upload(s3, bucket, algorithm, kind, parts):
    made = s3.create_multipart_upload(Bucket=bucket, Key="m", ChecksumAlgorithm=algorithm, ChecksumType=kind)
    assert made["ChecksumAlgorithm"] == algorithm and made["ChecksumType"] == kind
    done = []
    for number, body in enumerate(parts, 1):
        part = s3.upload_part(
            Bucket=bucket, Key="m", UploadId=made["UploadId"], PartNumber=number, Body=body, ChecksumAlgorithm=algorithm
        )
        field = f"Checksum{algorithm}"
        assert part[field] == checksum(algorithm, body)
        done.append({"PartNumber": number, "ETag": part["ETag"], field: part[field]})
    return made["UploadId"], done


PARTS = [made_bytes(1, PART_BYTES), made_bytes(2, PART_BYTES), made_bytes(3, 777)]


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_composite_of_a_multipart_object(s3, bucket, algorithm):
    upload_id, done = upload(s3, bucket, algorithm, "COMPOSITE", PARTS)
    complete = s3.complete_multipart_upload(
        Bucket=bucket, Key="m", UploadId=upload_id, MultipartUpload={"Parts": done}
    )
    inner = b"".join(COMPUTE[algorithm](p) for p in PARTS)
    want = f"{checksum(algorithm, inner)}-3"
    assert complete[f"Checksum{algorithm}"] == want and complete["ChecksumType"] == "COMPOSITE"
    got = s3.head_object(Bucket=bucket, Key="m", ChecksumMode="ENABLED")
    assert got[f"Checksum{algorithm}"] == want and got["ChecksumType"] == "COMPOSITE"
    attributes = s3.get_object_attributes(Bucket=bucket, Key="m", ObjectAttributes=["Checksum", "ObjectParts"])
    assert attributes["Checksum"]["ChecksumType"] == "COMPOSITE"
    parts = attributes["ObjectParts"]
    assert parts["TotalPartsCount"] == 3
    assert [(p["PartNumber"], p["Size"]) for p in parts["Parts"]] == [
        (i, len(p)) for i, p in enumerate(PARTS, 1)
    ]
    for number, body in enumerate(PARTS, 1):
        # A part's value, and the type of the object that it is a part of.
        part = s3.get_object(Bucket=bucket, Key="m", PartNumber=number, ChecksumMode="ENABLED")
        assert part[f"Checksum{algorithm}"] == checksum(algorithm, body) and part["ChecksumType"] == "COMPOSITE"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_full_object_of_a_multipart_object(s3, bucket, algorithm):
    upload_id, done = upload(s3, bucket, algorithm, "FULL_OBJECT", PARTS)
    want = checksum(algorithm, b"".join(PARTS))
    call = {"Bucket": bucket, "Key": "m", "UploadId": upload_id, "MultipartUpload": {"Parts": done}}
    wrong = {f"Checksum{algorithm}": checksum(algorithm, b"no"), "ChecksumType": "FULL_OBJECT"}
    assert error_of(s3.complete_multipart_upload, **call, **wrong)[0] == 400
    right = {f"Checksum{algorithm}": want, "ChecksumType": "FULL_OBJECT"}
    complete = s3.complete_multipart_upload(**call, **right)
    assert complete[f"Checksum{algorithm}"] == want and complete["ChecksumType"] == "FULL_OBJECT"
    got = s3.get_object(Bucket=bucket, Key="m", ChecksumMode="ENABLED")
    assert got[f"Checksum{algorithm}"] == want
    assert got["Body"].read() == b"".join(PARTS)


@pytest.mark.parametrize("algorithm,kind", [("SHA1", "FULL_OBJECT"), ("SHA256", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")])
def test_pairs_that_s3_does_not_have_are_refused(s3, bucket, algorithm, kind):
    made = error_of(
        s3.create_multipart_upload, Bucket=bucket, Key="m", ChecksumAlgorithm=algorithm, ChecksumType=kind
    )
    assert made == (400, "InvalidRequest")


def test_complete_with_a_wrong_part_checksum_is_invalid_part(s3, bucket):
    upload_id, done = upload(s3, bucket, "CRC32", "COMPOSITE", [b"only"])
    done[0]["ChecksumCRC32"] = checksum("CRC32", b"other")
    failed = error_of(
        s3.complete_multipart_upload, Bucket=bucket, Key="m", UploadId=upload_id, MultipartUpload={"Parts": done}
    )
    assert failed == (400, "InvalidPart")


def test_a_part_of_another_algorithm_is_refused(s3, bucket):
    made = s3.create_multipart_upload(Bucket=bucket, Key="m", ChecksumAlgorithm="SHA256")
    failed = error_of(
        s3.upload_part, Bucket=bucket, Key="m", UploadId=made["UploadId"], PartNumber=1, Body=b"x",
        ChecksumAlgorithm="CRC32",
    )  # fmt: skip
    assert failed == (400, "InvalidRequest")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_copy_computes_the_one_asked_for(s3, bucket, algorithm):
    s3.put_object(Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm="SHA1")
    source = {"Bucket": bucket, "Key": "k"}
    kept = s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    assert kept["CopyObjectResult"]["ChecksumSHA1"] == checksum("SHA1", b"hello")
    made = s3.copy_object(Bucket=bucket, Key="made", CopySource=source, ChecksumAlgorithm=algorithm)
    assert made["CopyObjectResult"][f"Checksum{algorithm}"] == checksum(algorithm, b"hello")
