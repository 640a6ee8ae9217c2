"""How requests arrive: presigned URLs, virtual-host style, payload signing modes, both gateways, Expect."""

import http.client
import io
import time
import urllib.parse

import pytest
from botocore.exceptions import ClientError
from harness.clients import LoopbackNames, error_of, s3_client
from harness.cluster import BASE_DOMAIN
from harness.made import made_bytes
from harness.names import fresh_name
from harness.sigv4 import Signer, wire_query


def fetch(method, url, body=None, headers=None):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=30)
    target = parts.path + ("?" + parts.query if parts.query else "")
    connection.request(method, target, body=body, headers={"Host": parts.netloc, **(headers or {})})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data, answer.headers


@pytest.mark.parametrize("key", ["k", "a//b c+ü%"])
def test_presigned_put_get_head_delete(s3, bucket, key):
    def url(call, **params):
        return s3.generate_presigned_url(call, Params={"Bucket": bucket, "Key": key, **params}, ExpiresIn=60)

    assert fetch("PUT", url("put_object"), b"presigned")[0] == 200
    assert fetch("GET", url("get_object"))[:2] == (200, b"presigned")
    status, data, headers = fetch("HEAD", url("head_object"))
    assert (status, data, headers["Content-Length"]) == (200, b"", "9")
    status, _, headers = fetch("GET", url("get_object", ResponseContentType="x/y", ResponseCacheControl="no-store"))
    assert status == 200 and headers["Content-Type"] == "x/y" and headers["Cache-Control"] == "no-store"
    assert fetch("GET", url("get_object"), headers={"Range": "bytes=0-2"})[:2] == (206, b"pre")
    assert fetch("DELETE", url("delete_object"))[0] == 204
    assert fetch("GET", url("get_object"))[0] == 404


def test_presigned_with_signed_headers(s3, bucket):
    url = s3.generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "k", "ContentType": "a/b", "Metadata": {"m": "1"}}
    )
    assert fetch("PUT", url, b"x", {"Content-Type": "a/b", "x-amz-meta-m": "1"})[0] == 200
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"m": "1"}
    assert fetch("PUT", url, b"y", {"Content-Type": "a/b", "x-amz-meta-m": "2"})[0] == 403
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_presigned_upload_part(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    url = s3.generate_presigned_url(
        "upload_part", Params={"Bucket": bucket, "Key": "m", "UploadId": upload, "PartNumber": 1}
    )
    status, _, headers = fetch("PUT", url, b"part")
    assert status == 200
    parts = {"Parts": [{"PartNumber": 1, "ETag": headers["ETag"]}]}
    s3.complete_multipart_upload(Bucket=bucket, Key="m", UploadId=upload, MultipartUpload=parts)
    assert s3.get_object(Bucket=bucket, Key="m")["Body"].read() == b"part"


def hoisted(cluster, method, bucket, key, query):
    """A URL as SDKs presign it that put x-amz-* headers into the query, so that nobody has to send them."""
    host = cluster.endpoints[0].split("//")[1]
    signer = Signer(cluster.keys.access_key, cluster.keys.secret_key)
    path = f"/{bucket}/{key}"
    return f"http://{host}{path}?{wire_query(signer.presign(method, path, query, host))}"


def test_headers_in_a_presigned_query_are_headers(cluster, s3, bucket):
    def put(query, headers=None, body=b"x"):
        status, data, _ = fetch("PUT", hoisted(cluster, "PUT", bucket, "k", query), body, headers)
        return status, data.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()

    assert put([("x-amz-meta-a", "1"), ("X-Amz-Meta-B", "2"), ("x-amz-acl", "private"),
                ("x-amz-storage-class", "STANDARD"), ("x-id", "PutObject")])[0] == 200  # fmt: skip
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"a": "1", "b": "2"}
    for name, value, owed in (
        ("x-amz-acl", "public-read", (501, "NotImplemented")),
        ("x-amz-acl", "nonsense", (400, "InvalidArgument")),
        ("x-amz-tagging", "a=b", (501, "NotImplemented")),
        ("x-amz-server-side-encryption", "AES256", (501, "NotImplemented")),
        ("x-amz-object-lock-mode", "COMPLIANCE", (501, "NotImplemented")),
        ("x-amz-storage-class", "GLACIER", (400, "InvalidStorageClass")),
        ("x-amz-expected-bucket-owner", "999999999999", (403, "AccessDenied")),
        ("x-amz-checksum-crc32", "y/Q5Jg==", (400, "BadDigest")),
        ("x-amz-meta-a", "b\r\nx-evil: 1", (400, "InvalidArgument")),
    ):
        assert put([(name, value)], body=b"never") == owed, name
    # A header of the same name that nobody signed is none that the URL's maker wanted.
    assert put([("x-amz-meta-a", "1")], {"x-amz-meta-a": "2"})[0] in (400, 403)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_presigned_uploads_of_the_javascript_sdk(cluster, s3, bucket):
    """It adds the CRC32 of no bytes, computed before there is a body; S3 ignores that one."""
    query = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-sdk-checksum-algorithm", "CRC32"), ("x-id", "PutObject")]
    for body in (b"hello world", b""):
        assert fetch("PUT", hoisted(cluster, "PUT", bucket, "k", query), body)[0] == 200
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    # One of some bytes was put there on purpose, and holds.
    query[0] = ("x-amz-checksum-crc32", "DUoRhQ==")
    assert fetch("PUT", hoisted(cluster, "PUT", bucket, "k", query), b"hello world")[0] == 200
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumCRC32"] == "DUoRhQ=="
    assert fetch("PUT", hoisted(cluster, "PUT", bucket, "k", query), b"hello w0rld")[0] == 400
    url = hoisted(cluster, "GET", bucket, "k", [("x-amz-checksum-mode", "ENABLED")])
    assert fetch("GET", url)[2]["x-amz-checksum-crc32"] == "DUoRhQ=="


def test_a_presigned_copy_with_its_source_in_the_query(cluster, s3, bucket):
    s3.put_object(Bucket=bucket, Key="source", Body=b"copied")
    url = hoisted(cluster, "PUT", bucket, "k", [("x-amz-copy-source", f"{bucket}/source")])
    assert fetch("PUT", url)[0] == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"copied"
    url = hoisted(cluster, "GET", bucket, "k", [("x-amz-copy-source", f"{bucket}/source")])
    assert fetch("GET", url)[0] == 400


def test_an_expired_url_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=1)
    # Waits for the clock itself, which is what is tested.
    time.sleep(2.2)
    status, data, _ = fetch("GET", url)
    assert status == 403 and b"expired" in data


def test_virtual_host_style(cluster, is_external):
    if is_external:
        pytest.skip("needs the base domain of our own gateways")
    port = cluster.endpoints[0].rpartition(":")[2]
    s3 = s3_client(f"http://{BASE_DOMAIN}:{port}", cluster.keys, s3={"addressing_style": "virtual"})
    name = fresh_name()
    with LoopbackNames():
        s3.create_bucket(Bucket=name)
        for key in ("k", "a//b", name + "/inner", "ü +"):
            s3.put_object(Bucket=name, Key=key, Body=key.encode())
            assert s3.get_object(Bucket=name, Key=key)["Body"].read() == key.encode()
        assert len(s3.list_objects_v2(Bucket=name)["Contents"]) == 4
        url = s3.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"})
        assert url.startswith(f"http://{name}.{BASE_DOMAIN}:")
        assert fetch("GET", url)[:2] == (200, b"k")
        path_style = s3_client(f"http://{BASE_DOMAIN}:{port}", cluster.keys)
        upload = s3.create_multipart_upload(Bucket=name, Key="m +")["UploadId"]
        part = s3.upload_part(Bucket=name, Key="m +", UploadId=upload, PartNumber=1, Body=b"part")
        done = s3.complete_multipart_upload(
            Bucket=name, Key="m +", UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )  # fmt: skip
        assert done["Location"] == f"http://{name}.{BASE_DOMAIN}:{port}/m%20%2B"
        assert path_style.get_object(Bucket=name, Key="ü +")["Body"].read() == "ü +".encode()
        for key in ("k", "a//b", name + "/inner", "ü +", "m +"):
            s3.delete_object(Bucket=name, Key=key)
        s3.delete_bucket(Bucket=name)


@pytest.mark.parametrize("signing", [True, False, None])
@pytest.mark.parametrize("calculation", ["when_supported", "when_required"])
@pytest.mark.parametrize("validation", ["when_supported", "when_required"])
def test_payload_and_checksum_modes(cluster, bucket, signing, calculation, validation):
    options = {} if signing is None else {"payload_signing_enabled": signing}
    s3 = s3_client(
        cluster.endpoints[0], cluster.keys, s3=options,
        request_checksum_calculation=calculation, response_checksum_validation=validation,
    )  # fmt: skip
    for size in (0, 10, 300_000):
        body = made_bytes(size, size)
        s3.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(body))
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=b"part")
    s3.complete_multipart_upload(
        Bucket=bucket, Key="m", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}, {"Key": "m"}]})


@pytest.mark.parametrize("algorithm", ["CRC64NVME", "CRC32"])
def test_request_forms_of_aws_cli_v2(cluster, bucket, tmp_path, algorithm):
    """v2 sends CRC64NVME with every upload, full-object for multipart, and validates what it reads."""
    s3 = s3_client(cluster.endpoints[0], cluster.keys)
    body = made_bytes("v2", 20 << 20)
    (tmp_path / "up").write_bytes(body)
    s3.upload_file(str(tmp_path / "up"), bucket, "k", ExtraArgs={"ChecksumAlgorithm": algorithm})
    s3.download_file(bucket, "k", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == body


def test_wrong_keys_are_refused(cluster, s3, bucket):
    from harness.cluster import Keys

    wrong_secret = s3_client(cluster.endpoints[0], Keys(cluster.keys.access_key, "x" * 40))
    assert error_of(wrong_secret.list_objects_v2, Bucket=bucket) == (403, "SignatureDoesNotMatch")
    nobody = s3_client(cluster.endpoints[0], Keys("AKIAIOSFODNN7NOBODY0", "x" * 40))
    assert error_of(nobody.list_objects_v2, Bucket=bucket) == (403, "InvalidAccessKeyId")


def test_what_one_gateway_wrote_the_other_shows_at_once(s3, s3_other):
    name = fresh_name()
    s3.create_bucket(Bucket=name)
    s3_other.head_bucket(Bucket=name)
    assert name in [b["Name"] for b in s3_other.list_buckets()["Buckets"]]
    for i in range(50):
        writer, reader = (s3, s3_other) if i % 2 else (s3_other, s3)
        key, body = f"k{i % 7}", made_bytes(i, 1000 if i % 5 else 300_000)
        etag = writer.put_object(Bucket=name, Key=key, Body=body)["ETag"]
        assert reader.get_object(Bucket=name, Key=key)["Body"].read() == body
        assert reader.head_object(Bucket=name, Key=key)["ETag"] == etag
        listed = {o["Key"]: o["ETag"] for o in reader.list_objects_v2(Bucket=name)["Contents"]}
        assert listed[key] == etag
        if i % 3 == 0:
            writer.delete_object(Bucket=name, Key=key)
            assert error_of(reader.get_object, Bucket=name, Key=key) == (404, "NoSuchKey")
            assert key not in [o["Key"] for o in reader.list_objects_v2(Bucket=name).get("Contents", [])]
    upload = s3.create_multipart_upload(Bucket=name, Key="m")["UploadId"]
    part = s3_other.upload_part(Bucket=name, Key="m", UploadId=upload, PartNumber=1, Body=b"part")
    assert s3.list_parts(Bucket=name, Key="m", UploadId=upload)["Parts"][0]["ETag"] == part["ETag"]
    assert s3_other.list_multipart_uploads(Bucket=name)["Uploads"][0]["UploadId"] == upload
    s3_other.complete_multipart_upload(
        Bucket=name, Key="m", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    assert s3.get_object(Bucket=name, Key="m")["Body"].read() == b"part"
    for entry in s3.list_objects_v2(Bucket=name)["Contents"]:
        s3.delete_object(Bucket=name, Key=entry["Key"])
    s3_other.delete_bucket(Bucket=name)
    assert error_of(s3.head_bucket, Bucket=name)[0] == 404
    assert error_of(s3.put_object, Bucket=name, Key="k", Body=b"")[1] == "NoSuchBucket"


def test_many_clients_at_once(cluster, bucket):
    from concurrent.futures import ThreadPoolExecutor

    clients = [s3_client(e, cluster.keys) for e in cluster.endpoints]

    def one(i):
        body = made_bytes(i, 5000 * (i % 9))
        clients[i % 2].put_object(Bucket=bucket, Key=f"c/{i}", Body=body)
        return clients[(i + 1) % 2].get_object(Bucket=bucket, Key=f"c/{i}")["Body"].read() == body

    with ThreadPoolExecutor(24) as pool:
        assert all(pool.map(one, range(300)))


def test_health_and_metrics_answer(cluster, is_external):
    if is_external:
        pytest.skip("needs our own gateways")
    from harness.cluster import http_status

    for base in (*cluster.endpoints, *(f"http://{a}" for a in (*cluster.gateway_admin, *cluster.node_admin))):
        assert http_status(f"{base}/health/live") == 200
        assert http_status(f"{base}/health/ready") == 200
    for address in (*cluster.gateway_admin, *cluster.node_admin):
        assert http_status(f"http://{address}/metrics") == 200


def test_a_presigned_url_of_the_wrong_secret_is_refused(cluster, s3, bucket):
    from harness.cluster import Keys

    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    liar = s3_client(cluster.endpoints[0], Keys(cluster.keys.access_key, "y" * 40))
    status, data, _ = fetch("GET", liar.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"}))
    assert status == 403 and b"SignatureDoesNotMatch" in data
    assert "x" not in data.decode() or b"<Error>" in data
    with pytest.raises(ClientError):
        liar.delete_object(Bucket=bucket, Key="k")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
