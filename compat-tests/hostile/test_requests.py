"""Rows 57–101: presigned URLs, response overrides, bucket names, keys, listings, digests."""

import base64
import hashlib

import pytest
from harness.clients import error_of
from harness.names import fresh_name
from harness.owed import owed, owed_or_closed
from harness.raw import request_bytes
from harness.sigv4 import amz_date, uri_encode


def renamed(name, value):
    return lambda pairs: [(k, value if k == name else v) for k, v in pairs]


@pytest.mark.parametrize("expires", [604801, 10**9])
def test_row_057_too_long_lived(h, expires):
    owed(h.presigned(expires=expires), "400 AuthorizationQueryParametersError")


@pytest.mark.parametrize("expires", [0, -5, "abc", "", "1.5"])
def test_row_057_odd_lifetimes(h, expires):
    owed(h.presigned(expires=expires), "400 AuthorizationQueryParametersError", 403)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_row_059_expired(h, method):
    answer = h.presigned(method, expires=60, signer=h.signer(date=amz_date(-600)), body=b"x" if method == "PUT" else b"")
    owed(answer, "403 AccessDenied")
    assert b"Request has expired" in answer.body and b"<Expires>" in answer.body and b"<ServerTime>" in answer.body


def test_row_060_from_the_future(h):
    owed(h.presigned(signer=h.signer(date=amz_date(3700))), "403 AccessDenied", 400, 403)


SIX = ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"]


@pytest.mark.parametrize("name", SIX)
def test_row_061_one_parameter_missing(h, name):
    answer = h.presigned(edit=lambda pairs: [p for p in pairs if p[0] != name])
    also = ["403 AccessDenied"] if name == "X-Amz-Algorithm" else []
    owed(answer, "400 AuthorizationQueryParametersError", *also)


@pytest.mark.parametrize("name", ["X-Amz-Expires", "X-Amz-Signature", "X-Amz-Credential"])
@pytest.mark.parametrize("first", [True, False])
def test_row_063_one_parameter_twice(h, name, first):
    def edit(pairs):
        more = [(name, "86400" if name == "X-Amz-Expires" else dict(pairs)[name])]
        return more + pairs if first else pairs + more

    expired = h.signer(date=amz_date(-600))
    owed(h.presigned(edit=edit, signer=expired, expires=60), "403 SignatureDoesNotMatch", 400)
    owed(h.presigned(edit=edit), "403 SignatureDoesNotMatch", 400)


def test_row_064_a_url_for_something_else(h):
    pairs = h.signer().presign("GET", h.path(), [], h.host)
    for method, path in (("PUT", h.path()), ("DELETE", h.path()), ("GET", h.path("other")), ("PUT", h.path("new"))):
        owed(h.presigned(method, path, edit=lambda _: pairs), "403 SignatureDoesNotMatch")
    for more in (("versionId", "null"), ("response-content-type", "text/html"), ("unknown", "1")):
        owed(h.presigned(edit=lambda p, more=more: [more, *p]), "403 SignatureDoesNotMatch")


@pytest.mark.parametrize("header", [("x-amz-copy-source", "/other/k"), ("x-amz-acl", "public-read"), ("x-amz-meta-a", "1")])
def test_row_065_unsigned_meaning_on_a_put_url(h, header):
    answer = h.presigned("PUT", h.path("new"), body=b"x", headers=[header])
    owed(answer, "403 AccessDenied", "403 SignatureDoesNotMatch")


def test_row_067_unknown_key(h):
    from harness.sigv4 import Signer

    owed(h.presigned(signer=Signer("AKIADELETED000000000", "x" * 40)), "403 InvalidAccessKeyId")


def test_row_068_anonymous_override(h):
    target = h.path() + "?response-content-type=text/html"
    owed(h.send(request_bytes("GET", target, [("Host", h.host)])), "403 AccessDenied", "400 InvalidRequest")


@pytest.mark.parametrize("name", ["response-content-disposition", "response-content-type", "response-cache-control"])
@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\r\n\r\n<html>", "a\0b"], ids=ascii)
def test_row_069_control_bytes_in_overrides(h, name, value):
    answer = h.signed(query=[(name, value)])
    owed(answer, "400 InvalidArgument", 200)
    assert answer.header("x-evil") is None and b"<html>" not in answer.body[:0]


def test_row_071_markup(h):
    h.put("page.html", b"<script>alert(1)</script>", ContentType="text/html")
    answer = owed(h.signed(path=h.path("page.html")), 200)
    assert answer.header("content-type") == "text/html"
    answer = owed(h.signed(path=h.path("<script>alert(1)</script>&'\"")), "404 NoSuchKey")
    assert b"<script>" not in answer.body


NAMES = ["ab", "a" * 64, "Upper", "under_score", "-dash", "dash-", ".dot", "dot.", "192.168.1.1", "..", "a\nb1", "a b1",
         "a\0b1", "a..b", "xn--abc", "sthree-abc", "abc-s3alias", "abc--ol-s3", "a!b1", "ünïcode"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda n: ascii(n)[:20])
def test_row_072_bad_bucket_names(h, name):
    answer = h.signed("PUT", "/" + uri_encode(name, False))
    owed(answer, "400 InvalidBucketName", *(["400 InvalidURI"] if "\0" in name or "\n" in name else []))


@pytest.mark.parametrize("name", ["a..b", "xn--abc", "sthree-abc", "abc-s3alias", "abc--ol-s3", "a.-b"])
def test_row_073_reserved_bucket_names(h, name):
    answer = owed(h.signed("PUT", f"/{name}"), "400 InvalidBucketName", *([200] if name == "a.-b" else []))
    if answer.status == 200:
        h.s3.delete_bucket(Bucket=name)


def test_row_075_a_bucket_that_exists(h):
    owed(h.signed("PUT", h.path(None)), "409 BucketAlreadyOwnedByYou", 200)


HOSTS = ["evil.example", "a.b.c.d.e.f.example", "-", "1", "2130706433", "[::1]", "127.0.0.1:99999", "x" * 300, "a..b", "%00"]


@pytest.mark.parametrize("host", HOSTS, ids=lambda n: n[:20])
def test_row_076_odd_hosts(h, host):
    owed(h.signed(host=host), 200, 400, 403, 404)


@pytest.mark.parametrize("key", ["k" * 1025, "語" * 342, "k" * 10_000], ids=["1025", "342x3", "10000"])
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_row_077_long_keys(h, key, method):
    also = [431, 414, "400 RequestHeaderSectionTooLarge"] if len(key) == 10_000 else []
    owed(h.signed(method, h.path(key), body=b"x" if method == "PUT" else b""), "400 KeyTooLongError", *also)


def test_row_077_the_longest_keys_work(h):
    for key in ("k" * 1024, "s" * 300, "é" * 512):
        owed(h.signed("PUT", h.path(key), body=b"x"), 200)
        h.expected[key] = b"x"


def test_row_079_dots_that_aim_at_another_bucket(h, make_bucket, s3):
    other = make_bucket()
    s3.put_object(Bucket=other, Key="secret", Body=b"untouched")
    aim = f"../{other}/secret"
    body = f"<Delete><Object><Key>{aim}</Key></Object></Delete>".encode()
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    owed(h.signed("POST", h.path(None), [("delete", None)], [("content-md5", md5)], body), 200, 400)
    for source in (f"/{h.bucket}/{aim}", f"/{h.bucket}/..%2F{other}%2Fsecret", f"{h.bucket}/%2e%2e/{other}/secret"):
        owed(h.signed("PUT", h.path("new"), headers=[("x-amz-copy-source", source)]), 400, 403, 404)
    answer = owed(h.signed(path=h.path(None), query=[("list-type", "2"), ("prefix", f"../{other}/")]), 200, 400)
    assert b"secret</Key>" not in answer.body
    owed(h.signed(path=f"/{h.bucket}/../{other}/secret"), 404, 400)
    assert s3.get_object(Bucket=other, Key="secret")["Body"].read() == b"untouched"


def test_row_080_no_path_normalisation(h):
    for key in ("a", "a/", "a//b", "a/b", "/a", "./a", "a/./b", "//", "a/../b", "..", "."):
        owed(h.signed("PUT", h.path(key), body=key.encode()), 200)
        h.expected[key] = key.encode()
    for key, body in h.expected.items():
        assert owed(h.signed(path=h.path(key)), 200).body == body


def test_row_081_nul(h):
    answer = owed(h.signed("PUT", f"/{h.bucket}/victim%00b", body=b"x"), "400 InvalidURI", 200)
    if answer.status == 200:
        owed(h.signed("DELETE", f"/{h.bucket}/victim%00b"), 204)


@pytest.mark.parametrize("raw", ["%ff", "a%c3", "%c0%af", "%e0%80%af", "%ed%a0%80", "%f5%80%80%80", "%fe%ff"])
def test_row_083_invalid_utf8(h, raw):
    owed(h.signed("PUT", f"/{h.bucket}/{raw.upper()}", body=b"x"), "400 InvalidURI", 400, "403 SignatureDoesNotMatch")
    owed(h.signed("GET", f"/{h.bucket}/{raw.upper()}"), "400 InvalidURI", 400, "403 SignatureDoesNotMatch")


def test_row_084_unicode_forms_stay_apart(h):
    keys = ["\u00e9", "e\u0301", "😀", "\u200fx", "ａ", "\uffee", "\U00010000"]
    for key in keys:
        owed(h.signed("PUT", h.path(key), body=key.encode()), 200)
        h.expected[key] = key.encode()
    listed = [o["Key"] for o in h.s3.list_objects_v2(Bucket=h.bucket)["Contents"]]
    assert listed == sorted([*keys, "victim"], key=str.encode)
    answer = owed(h.signed("PUT", h.path("\ufffe"), body=b"x"), 200, 400)
    if answer.status == 200:
        h.expected["\ufffe"] = b"x"
        owed(h.signed("DELETE", h.path("\ufffe")), 204)
        del h.expected["\ufffe"]


def test_row_085_plus_is_a_plus(h):
    owed(h.signed("PUT", f"/{h.bucket}/a%2Bb", body=b"plus"), 200)
    owed(h.signed("PUT", f"/{h.bucket}/a%20b", body=b"space"), 200)
    h.expected.update({"a+b": b"plus", "a b": b"space"})
    # The client writes a bare `+`, and signs the path that decoding and encoding once gives.
    headers = h.signed_headers("GET", f"/{h.bucket}/a%2Bb")
    assert owed(h.send(request_bytes("GET", f"/{h.bucket}/a+b", headers)), 200).body == b"plus"


def test_row_087_decoded_once(h):
    owed(h.signed("PUT", f"/{h.bucket}/a%252e%252e", body=b"x"), 200)
    h.expected["a%2e%2e"] = b"x"


@pytest.mark.parametrize("raw", ["a%ZZ", "a%", "a%2", "%"])
def test_row_088_broken_percent(h, raw):
    owed(h.signed("PUT", f"/{h.bucket}/{raw}", body=b"x"), "400 InvalidURI")
    owed(h.signed("GET", f"/{h.bucket}/{raw}"), "400 InvalidURI")


def test_row_089_keys_like_a_stores_own_files(h):
    for key in ("x", "x.meta", "x.tmp", "x/part.1", "x/xl.meta", ".uploads/x", "null", "x.lock", ".ringfort", "_/x"):
        h.put(key, key.encode())
    for key in list(h.expected):
        assert owed(h.signed(path=h.path(key)), 200).body == h.expected[key]


def listing(h, *query, bucket=None):
    return h.signed(path=h.path(None, bucket), query=query)


def test_row_091_max_keys_of_a_million(h):
    for kind in ((("list-type", "2"),), ()):
        answer = owed(listing(h, *kind, ("max-keys", "1000000")), 200)
        assert int(answer.xml().findtext("MaxKeys")) <= 1000


@pytest.mark.parametrize("value", ["-1", "abc", "1.5", "99999999999999999999", "0x1"])
def test_row_091_odd_max_keys(h, value):
    for kind in ((("list-type", "2"),), ()):
        owed(listing(h, *kind, ("max-keys", value)), "400 InvalidArgument", *([200] if value.startswith("99") else []))


@pytest.mark.parametrize("kind", [(("list-type", "2"),), ()])
@pytest.mark.parametrize("value", ["base64", "URL ", "x"])
def test_row_092_unknown_encoding_type(h, kind, value):
    owed(listing(h, *kind, ("encoding-type", value)), "400 InvalidArgument")


@pytest.mark.parametrize("token", ["garbage", "A" * 40, "../../x", "%00", "-"])
def test_row_093_garbage_tokens(h, token):
    owed(listing(h, ("list-type", "2"), ("continuation-token", token)), "400 InvalidArgument")


def test_row_093_the_token_of_another_bucket(h, make_bucket, s3):
    other = make_bucket()
    for key in ("aa", "zz1", "zz2"):
        s3.put_object(Bucket=other, Key=key, Body=b"x")
    token = s3.list_objects_v2(Bucket=other, MaxKeys=1)["NextContinuationToken"]
    answer = owed(listing(h, ("list-type", "2"), ("continuation-token", token)), "400 InvalidArgument", 200)
    assert b"zz1" not in answer.body


def test_row_093_a_token_of_a_megabyte(h):
    target = f"{h.path(None)}?continuation-token={'A' * 1_000_000}&list-type=2"
    query = [("continuation-token", "A" * 1_000_000), ("list-type", "2")]
    data = request_bytes("GET", target, h.signed_headers("GET", h.path(None), query))
    owed_or_closed(h.send(data, may_close=True, exempt=True), "400 InvalidArgument", 400, 414, 431)


def test_row_095_delimiters(h):
    for i in range(30):
        h.put(f"x/{i:03}", b"")
    answer = owed(listing(h, ("list-type", "2"), ("delimiter", "/")), 200).xml()
    assert [p.text for p in answer.findall("CommonPrefixes/Prefix")] == ["x/"]
    assert [k.text for k in answer.findall("Contents/Key")] == ["victim"]
    answer = owed(listing(h, ("list-type", "2"), ("delimiter", "d" * 500)), 200).xml()
    assert len(answer.findall("Contents")) == 31


@pytest.mark.parametrize("value", ["-1", "abc", "1e3"])
def test_row_096_odd_paging_numbers(h, value):
    owed(h.signed(path=h.path(None), query=[("max-uploads", value), ("uploads", None)]), "400 InvalidArgument")
    upload = h.s3.create_multipart_upload(Bucket=h.bucket, Key="m")["UploadId"]
    for name in ("max-parts", "part-number-marker"):
        owed(h.signed(path=h.path("m"), query=[(name, value), ("uploadId", upload)]), "400 InvalidArgument")


@pytest.mark.parametrize("value", ["!!", "AAAA", hashlib.md5(b"x").hexdigest(), "", "A" * 5000])
@pytest.mark.parametrize("key", ["victim", "new"])
def test_row_097_odd_content_md5(h, value, key):
    owed(h.signed("PUT", h.path(key), headers=[("content-md5", value)], body=b"x"), "400 InvalidDigest")


LENGTHS = {"crc32": 4, "crc32c": 4, "sha1": 20, "sha256": 32, "crc64nvme": 8}


@pytest.mark.parametrize("algorithm", LENGTHS)
@pytest.mark.parametrize("key", ["victim", "new"])
def test_row_099_wrong_checksums(h, algorithm, key):
    name = f"x-amz-checksum-{algorithm}"
    wrong = base64.b64encode(b"\1" * LENGTHS[algorithm]).decode()
    owed(h.signed("PUT", h.path(key), headers=[(name, wrong)], body=b"x"), "400 BadDigest")
    for bad in ("!!!", wrong[:-4] or "A", base64.b64encode(b"\1" * 99).decode(), ""):
        owed(h.signed("PUT", h.path(key), headers=[(name, bad)], body=b"x"), "400 InvalidRequest")


def test_row_100_two_checksums(h):
    from harness.sigv4 import crc32_base64

    sha256 = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    both = [("x-amz-checksum-crc32", crc32_base64(b"x")), ("x-amz-checksum-sha256", sha256)]
    owed(h.signed("PUT", h.path("new"), headers=both, body=b"x"), "400 InvalidRequest")


@pytest.mark.parametrize("value", ["CRC32", "SHA256", "MD4", ""])
def test_row_101_algorithm_without_value(h, value):
    answer = h.signed("PUT", h.path("new"), headers=[("x-amz-sdk-checksum-algorithm", value)], body=b"x")
    owed(answer, "400 InvalidRequest")


def test_bucket_names_are_never_confused_with_fresh_ones(h):
    assert error_of(h.s3.head_bucket, Bucket=fresh_name())[0] == 404
