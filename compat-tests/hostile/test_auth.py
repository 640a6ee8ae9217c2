"""Rows 1–28: who asks, and whether that is proved."""

import pytest
from harness.owed import owed
from harness.raw import request_bytes
from harness.sigv4 import UNSIGNED, Signer, amz_date, sha256_hex


def anonymous(h, method, path, headers=(), body=b""):
    more = [("Content-Length", str(len(body)))] if method in ("PUT", "POST") else []
    return h.send(request_bytes(method, path, [("Host", h.host), *headers, *more], body), method)


@pytest.mark.parametrize("method,key", [("GET", "victim"), ("HEAD", "victim"), ("PUT", "new"), ("PUT", "victim"),
                                        ("DELETE", "victim"), ("GET", None), ("PUT", None), ("DELETE", None)])  # fmt: skip
def test_row_001_no_credentials(h, method, key):
    owed(anonymous(h, method, h.path(key)), "403 AccessDenied", *([403] if method == "HEAD" else []))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_row_003_wrong_secret(h, method):
    answer = h.signed(method, body=b"x" if method == "PUT" else b"", signer=h.signer(secret_key="w" * 40))
    owed(answer, "403 SignatureDoesNotMatch", *([403] if method == "HEAD" else []))


@pytest.mark.parametrize("seconds", [-16 * 60, 16 * 60, -86400 * 365, 86400 * 3])
def test_row_004_clock_skew(h, seconds):
    answer = owed(h.signed(signer=h.signer(date=amz_date(seconds))), "403 RequestTimeTooSkewed")
    for element in (b"<RequestTime>", b"<ServerTime>", b"<MaxAllowedSkewMilliseconds>900000<"):
        assert element in answer.body


def test_row_005_no_date(h):
    headers = [(n, v) for n, v in h.signed_headers("GET", h.path()) if n != "x-amz-date"]
    owed(h.send(request_bytes("GET", h.path(), headers)), "403 AccessDenied", "403 SignatureDoesNotMatch")


def test_row_007_scope_of_another_day(h):
    signer = h.signer(scope_date=amz_date(-86400 * 2)[:8])
    owed(h.signed(signer=signer), "400 AuthorizationHeaderMalformed", "403 SignatureDoesNotMatch")


def test_row_008_wrong_region(h):
    answer = owed(h.signed(signer=h.signer(region="eu-west-7")), "400 AuthorizationHeaderMalformed")
    assert b"<Region>us-east-1</Region>" in answer.body


def test_row_009_wrong_service(h):
    owed(h.signed(signer=h.signer(service="ec2")), "400 AuthorizationHeaderMalformed")


@pytest.mark.parametrize("value", ["Nonsense", "Bearer abc", "Basic dTpw", "AWS4-HMAC-SHA256", ""])
def test_row_011_odd_authorization(h, value):
    accepted = ["400 InvalidArgument"] + (["403 AccessDenied"] if value == "" else [])
    if value == "AWS4-HMAC-SHA256":
        accepted.append("400 AuthorizationHeaderMalformed")
    headers = [("Authorization", value), ("x-amz-date", amz_date())]
    owed(anonymous(h, "GET", h.path(), headers), *accepted)


def test_row_012_sigv2(h):
    headers = [("Authorization", f"AWS {h.keys.access_key}:c2lnbmF0dXJlc2lnbmF0dXJl"), ("x-amz-date", amz_date())]
    owed(anonymous(h, "GET", h.path(), headers), "400 InvalidRequest", 403)


@pytest.mark.parametrize("part", ["Credential", "SignedHeaders", "Signature"])
def test_row_013_a_part_of_the_header_is_missing(h, part):
    headers = dict(h.signed_headers("GET", h.path()))
    scheme, _, rest = headers["Authorization"].partition(" ")
    headers["Authorization"] = scheme + " " + ", ".join(p for p in rest.split(", ") if not p.startswith(part + "="))
    owed(h.send(request_bytes("GET", h.path(), headers.items())), "400 AuthorizationHeaderMalformed")


def test_row_015_header_and_query_together(h):
    signer = h.signer()
    pairs = signer.presign("GET", h.path(), [], h.host)
    owed(h.signed("GET", query=pairs, signer=signer), "400 InvalidArgument")


def test_row_016_host_is_not_signed(h):
    answer = h.signed(signed_names=["x-amz-content-sha256", "x-amz-date"])
    owed(answer, "403 AccessDenied", "403 SignatureDoesNotMatch")


UNSIGNED_HEADERS = [
    ("x-amz-meta-evil", "1"), ("x-amz-acl", "public-read"), ("x-amz-tagging", "a=b"),
    ("x-amz-storage-class", "STANDARD_IA"), ("x-amz-server-side-encryption", "AES256"),
    ("x-amz-object-lock-mode", "GOVERNANCE"), ("x-amz-website-redirect-location", "/x"),
    ("x-amz-copy-source", "/other/k"),
]  # fmt: skip


@pytest.mark.parametrize("header", UNSIGNED_HEADERS, ids=[n for n, _ in UNSIGNED_HEADERS])
def test_row_017_an_amz_header_that_is_not_signed(h, header):
    answer = h.signed("PUT", h.path("new"), body=b"x", unsigned=[header])
    owed(answer, "403 AccessDenied", "403 SignatureDoesNotMatch")
    if answer.code == "AccessDenied":
        assert b"HeadersNotSigned" in answer.body and header[0].encode() in answer.body


def test_row_019_unsigned_standard_headers_are_honoured(h):
    assert owed(h.signed(unsigned=[("Range", "bytes=0-2")]), 206).body == b"the"
    owed(h.signed(unsigned=[("If-Match", '"nope"')]), "412 PreconditionFailed")
    owed(h.signed("PUT", h.path("typed"), body=b"x", unsigned=[("Content-Type", "x/y")]), 200)
    h.expected["typed"] = b"x"
    assert h.s3.head_object(Bucket=h.bucket, Key="typed")["ContentType"] == "x/y"


def test_row_020_signed_header_that_is_absent(h):
    names = ["host", "x-amz-absent", "x-amz-content-sha256", "x-amz-date"]
    owed(h.signed(signed_names=names), "403 SignatureDoesNotMatch", "403 AccessDenied", 200)


ODD_LISTS = {
    "unsorted": ["x-amz-date", "host", "x-amz-content-sha256"],
    "twice": ["host", "host", "x-amz-content-sha256", "x-amz-date"],
    "upper": ["HOST", "X-AMZ-CONTENT-SHA256", "X-AMZ-DATE"],
    "thousand": sorted(["host", "x-amz-content-sha256", "x-amz-date", *[f"n{i}" for i in range(1000)]]),
    "empty": [],
}


@pytest.mark.parametrize("name", ODD_LISTS)
def test_row_021_odd_signed_header_lists(h, name):
    answer = h.signed(signed_names=ODD_LISTS[name])
    allowed = [200] if name in ("unsorted", "twice", "upper") else []
    if name == "thousand":
        allowed = [400, 431]
    owed(answer, "400 AuthorizationHeaderMalformed", 403, *allowed)


def test_row_023_host_as_sent(h):
    bare = h.host.partition(":")[0]
    owed(h.signed(host=bare), 200)
    headers = [(n, "other.example" if n == "Host" else v) for n, v in h.signed_headers("GET", h.path())]
    owed(h.send(request_bytes("GET", h.path(), headers)), "403 SignatureDoesNotMatch", 404)


FORWARDED = [("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1")]


def test_row_024_claimed_addresses(h):
    owed(anonymous(h, "GET", h.path(), FORWARDED), "403 AccessDenied")


TRUSTED = [
    ("x-amz-user", "admin"), ("x-remote-user", "admin"), ("x-forwarded-user", "admin"), ("x-ringfort-internal", "1"),
    ("x-ringfort-principal", "root"), ("x-internal-token", "1"), ("x-principal", "admin"), ("aws-principal", "*"),
    ("x-amz-security-token", "x"), ("aws:userid", "admin"), ("x-access-key", "admin"),
]  # fmt: skip


def test_row_025_headers_of_trust(h):
    owed(anonymous(h, "GET", h.path(), TRUSTED), "403 AccessDenied", "400 InvalidRequest", "403 InvalidAccessKeyId")
    liar = h.signer(secret_key="w" * 40)
    # A name with a colon cannot be among SignedHeaders.
    signable = [(name, value) for name, value in TRUSTED if ":" not in name]
    owed(h.signed(headers=signable, signer=liar), "403 SignatureDoesNotMatch", "400 InvalidToken", "403 InvalidAccessKeyId")


def test_row_027_replay_with_another_body(h):
    headers = h.signed_headers("PUT", h.path("replay"), body=b"first body")
    owed(h.send(request_bytes("PUT", h.path("replay"), headers, b"first body"), "PUT"), 200)
    h.expected["replay"] = b"first body"
    answer = h.send(request_bytes("PUT", h.path("replay"), headers, b"other body"), "PUT")
    owed(answer, "400 XAmzContentSHA256Mismatch")


SIGNATURES = {
    "upper": lambda s: s.upper(), "63": lambda s: s[:63], "66": lambda s: s + "00", "empty": lambda s: "",
    "not_hex": lambda s: "z" * 64, "10k": lambda s: s * 160,
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_row_028_odd_signatures(h, name):
    headers = dict(h.signed_headers("GET", h.path()))
    start, _, signature = headers["Authorization"].rpartition("Signature=")
    headers["Authorization"] = f"{start}Signature={SIGNATURES[name](signature)}"
    answer = h.send(request_bytes("GET", h.path(), headers.items()))
    allowed = [200] if name == "upper" else (["400 RequestHeaderSectionTooLarge", 431] if name == "10k" else [])
    owed(answer, "403 SignatureDoesNotMatch", "400 AuthorizationHeaderMalformed", *allowed)


def test_unknown_access_key_is_named_so(h):
    owed(h.signed(signer=Signer("AKIANOSUCHKEY0000000", "x" * 40)), "403 InvalidAccessKeyId")


def test_unsigned_payload_is_accepted_when_signed_so(h):
    owed(h.signed("PUT", h.path("u"), body=b"u", payload_hash=UNSIGNED), 200)
    h.expected["u"] = b"u"
    assert sha256_hex(b"") != sha256_hex(b"u")
