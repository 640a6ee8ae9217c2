"""The tests' own signer agrees with botocore's, or every row would test nothing but itself."""

import datetime
import re

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from harness.sigv4 import UNSIGNED, Signer, amz_date, sha256_hex, wire_query


def fixed(monkeypatch, date):
    when = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ")
    for name in ("get_current_datetime",):
        if hasattr(botocore.auth, name):
            monkeypatch.setattr(botocore.auth, name, lambda remove_tzinfo=True: when)


def test_header_signature_agrees_with_botocore(monkeypatch):
    date = amz_date()
    fixed(monkeypatch, date)
    query = [("prefix", "a b/ü+"), ("list-type", "2"), ("empty", "")]
    headers = [("Host", "127.0.0.1:9"), ("x-amz-meta-a", "two  words"), ("x-amz-content-sha256", sha256_hex(b"x"))]
    url = "http://127.0.0.1:9/bucket/a%20b//c?" + wire_query(query)
    request = botocore.awsrequest.AWSRequest("PUT", url, dict(headers), b"x")
    request.context["payload_signing_enabled"] = True
    credentials = botocore.credentials.Credentials("AKID", "secret")
    botocore.auth.S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    theirs = request.headers["Authorization"]
    signer = Signer("AKID", "secret", date=request.headers["X-Amz-Date"])
    names = re.search("SignedHeaders=([^,]*)", theirs)[1].split(";")
    ours = signer.header_auth(
        "PUT", "/bucket/a%20b//c", query, [*headers, ("x-amz-date", signer.date)], sha256_hex(b"x"), names
    )
    assert ours == theirs


def test_presigned_signature_agrees_with_botocore(monkeypatch):
    request = botocore.awsrequest.AWSRequest("GET", "http://h.example/b/k?versionId=null")
    credentials = botocore.credentials.Credentials("AKID", "secret")
    botocore.auth.S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=60).add_auth(request)
    date = re.search(r"X-Amz-Date=(\w+)", request.url)[1]
    pairs = Signer("AKID", "secret", date=date).presign("GET", "/b/k", [("versionId", "null")], "h.example", 60)
    assert dict(pairs)["X-Amz-Signature"] == re.search(r"X-Amz-Signature=(\w+)", request.url)[1]
    assert UNSIGNED == "UNSIGNED-PAYLOAD"
