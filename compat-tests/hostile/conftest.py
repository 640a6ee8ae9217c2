"""The `h` fixture: a bucket with a victim object, ways to send bad requests, and the rule checked after each test.

The rule (for every row): no 5xx but 501 and 503, a whole answer or a closed connection within 30 s, a well-formed
error document, the connection in step, and nothing changed: the bucket holds exactly what the test says it holds.
"""

import hashlib
import time
import xml.etree.ElementTree as ElementTree

import pytest
from harness.clients import empty_bucket
from harness.names import fresh_name
from harness.raw import Closed, RawConnection, Response, request_bytes
from harness.sigv4 import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    Signer,
    sha256_hex,
    signed_chunks,
    unsigned_chunks,
    uri_encode,
    wire_query,
)

ANSWER_SECONDS = 30
VICTIM = "victim"
VICTIM_BODY = b"the victim's bytes"


class Hostile:
    def __init__(self, s3, cluster):
        self.s3 = s3
        self.host = cluster.endpoints[0].split("//")[1]
        self.keys = cluster.keys
        self.cluster = cluster
        self.bucket = fresh_name()
        s3.create_bucket(Bucket=self.bucket)
        s3.put_object(Bucket=self.bucket, Key=VICTIM, Body=VICTIM_BODY, ContentType="text/plain")
        self.expected = {VICTIM: VICTIM_BODY}
        self.answers = []

    def signer(self, **kwargs):
        return Signer(self.keys.access_key, kwargs.pop("secret_key", self.keys.secret_key), **kwargs)

    def path(self, key=VICTIM, bucket=None):
        base = f"/{bucket or self.bucket}"
        return base if key is None else f"{base}/{uri_encode(key, True)}"

    def signed_headers(
        self, method, path, query=(), headers=(), body=b"", payload_hash=None, signer=None, signed_names=None, host=None
    ):
        """Headers of a correctly signed request, Content-Length included where there is a body or a writing method."""
        signer = signer or self.signer()
        payload_hash = payload_hash or sha256_hex(body)
        all_headers = [("Host", host or self.host), ("x-amz-date", signer.date), ("x-amz-content-sha256", payload_hash)]
        all_headers += list(headers)
        auth = signer.header_auth(method, path, list(query), all_headers, payload_hash, signed_names)
        all_headers.append(("Authorization", auth))
        if body or method in ("PUT", "POST"):
            all_headers.append(("Content-Length", str(len(body))))
        return all_headers

    def signed(self, method="GET", path=None, query=(), headers=(), body=b"", unsigned=(), **kwargs):
        """Sends one signed request; `unsigned` headers are added after signing. Returns the Response."""
        path = path or self.path()
        all_headers = self.signed_headers(method, path, query, headers, body, **kwargs)
        target = path + ("?" + wire_query(query) if query else "")
        return self.send(request_bytes(method, target, [*all_headers, *unsigned], body), method)

    def presigned(self, method="GET", path=None, query=(), body=b"", headers=(), edit=None, signer=None, expires=300):
        path = path or self.path()
        pairs = (signer or self.signer()).presign(method, path, list(query), self.host, expires)
        if edit:
            pairs = edit(pairs)
        all_headers = [("Host", self.host), *headers]
        if body or method in ("PUT", "POST"):
            all_headers.append(("Content-Length", str(len(body))))
        return self.send(request_bytes(method, f"{path}?{wire_query(pairs)}", all_headers, body), method)

    def send(self, data, method="GET", *, finish=False, may_close=False, exempt=False):
        """Sends raw bytes and judges the answer by the rule. None when the server closed and `may_close` holds."""
        connection = RawConnection(self.host, ANSWER_SECONDS)
        began = time.monotonic()
        connection.send(data)
        if finish:
            connection.finish_sending()
        try:
            answer = connection.read_response(method)
        except Closed:
            assert may_close, "closed without an answer"
            self.answers.append(None)
            return None
        except TimeoutError:
            raise AssertionError("no answer within 30 s") from None
        assert time.monotonic() - began < ANSWER_SECONDS
        self.judge(answer, method, exempt)
        if answer.keeps_open and not finish:
            self.still_in_step(connection)
        connection.close()
        return answer

    def judge(self, answer: Response, method, exempt=False):
        self.answers.append(answer)
        assert answer.status < 500 or answer.status in (501, 503), f"a server error: {answer}"
        for secret in (self.keys.secret_key.encode(), b"panicked at", b"RUST_BACKTRACE", b"/src/"):
            assert secret not in answer.body, f"the answer leaks {secret[:12]!r}"
        if answer.status >= 400 and method != "HEAD" and not exempt:
            try:
                root = ElementTree.fromstring(answer.body)
            except ElementTree.ParseError as e:
                raise AssertionError(f"the error is not well-formed XML ({e}): {answer}") from None
            assert root.tag == "Error" and root.findtext("Code"), f"no S3 error: {answer}"

    def still_in_step(self, connection):
        """The next good request on the same connection is answered rightly, and nothing else was."""
        path = self.path()
        connection.send(request_bytes("GET", path, self.signed_headers("GET", path)))
        try:
            answer = connection.read_response()
        except Closed:
            return
        assert answer.status == 200 and answer.body == VICTIM_BODY, f"out of step: {answer}"
        assert not connection.buffer, f"more than one answer: {connection.buffer[:200]!r}"

    def seed(self, method, path, mode, headers):
        signer = self.signer()
        return signer, self.signed_headers(method, path, headers=headers, payload_hash=mode, signer=signer)

    def streaming(
        self, body, key="new", mode=STREAMING_SIGNED, decoded=None, trailers=None, declare=None, chunk_bytes=65536,
        tamper=None, edit=None, finish=False, may_close=False, forge=False, extra=(),
    ):  # fmt: skip
        """A PUT in aws-chunked form. `decoded=''` sends an empty length, `False` none; `edit` changes the body's bytes."""
        signer = self.signer(secret_key="forged" * 6) if forge else self.signer()
        path = self.path(key)
        headers = [("content-encoding", "aws-chunked"), *extra]
        if decoded is not False:
            headers.append(("x-amz-decoded-content-length", str(len(body)) if decoded is None else decoded))
        if declare is None and trailers:
            declare = ",".join(n for n, _ in trailers)
        if declare:
            headers.append(("x-amz-trailer", declare))
        all_headers = self.signed_headers("PUT", path, headers=headers, payload_hash=mode, signer=signer)
        all_headers = [(n, v) for n, v in all_headers if n != "Content-Length"]
        signature = dict(all_headers)["Authorization"].rpartition("=")[2]
        pieces = [body[i : i + chunk_bytes] for i in range(0, len(body), chunk_bytes)]
        if mode == STREAMING_UNSIGNED_TRAILER:
            data = unsigned_chunks(pieces, trailers or ())
        elif mode == STREAMING_SIGNED_TRAILER:
            data = signed_chunks(signer, signature, pieces, trailers or [], tamper=tamper)
        else:
            data = signed_chunks(signer, signature, pieces, tamper=tamper)
        length = len(data)
        if edit:
            data = edit(data)
            length = length if finish else len(data)
        all_headers.append(("Content-Length", str(length)))
        return self.send(request_bytes("PUT", path, all_headers, data), "PUT", finish=finish, may_close=may_close)

    def put(self, key, body, **kwargs):
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, **kwargs)
        self.expected[key] = body

    def unchanged(self):
        """The bucket holds exactly the expected keys with the expected bytes."""
        there = {}
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            there.update({o["Key"]: o["ETag"].strip('"') for o in page.get("Contents", [])})
        assert set(there) == set(self.expected), f"objects changed: {set(there) ^ set(self.expected)}"
        for key, body in self.expected.items():
            if body is not None and "-" not in there[key]:
                assert there[key] == hashlib.md5(body).hexdigest(), f"{key} has other bytes"
        got = self.s3.get_object(Bucket=self.bucket, Key=VICTIM)
        assert got["Body"].read() == self.expected[VICTIM]

    def clean(self):
        empty_bucket(self.s3, self.bucket)


@pytest.fixture
def h(s3, cluster):
    hostile = Hostile(s3, cluster)
    yield hostile
    hostile.clean()


@pytest.fixture(autouse=True)
def nothing_happened(request):
    """Runs before `h` is torn down: state is compared whatever the test itself looked at."""
    if "h" not in request.fixturenames:
        yield
        return
    hostile = request.getfixturevalue("h")
    yield
    hostile.unchanged()
