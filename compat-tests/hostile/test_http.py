"""Rows 164–189: HTTP itself, routes, and what must not be reachable from the S3 port."""

import re
import socket
import subprocess
import threading
import time

import pytest
from harness.owed import owed, owed_or_closed
from harness.raw import Closed, RawConnection, request_bytes
from harness.sigv4 import UNSIGNED, wire_query


def raw(h, data, *accepted, method="GET", closed=True, finish=True):
    """Sends bytes that may not be HTTP; the answer is one of `accepted`, or the connection closes."""
    answer = h.send(data, method, may_close=closed, exempt=True, finish=finish)
    return owed_or_closed(answer, *accepted) if closed else owed(answer, *accepted)


def head_of(h, *more, method="GET", path=None):
    signed = h.signed_headers(method, path or h.path(), payload_hash=UNSIGNED if method == "PUT" else None)
    signed = [(n, v) for n, v in signed if n != "Content-Length"]
    return signed + list(more)


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "xchunked", "chunked, identity", " chunked", "\tchunked"])
def test_row_164_length_and_chunked_together(h, coding):
    hidden = request_bytes("DELETE", h.path(), h.signed_headers("DELETE", h.path()))
    body = b"0\r\n\r\n" + hidden
    more = [("Content-Length", str(len(body))), ("Transfer-Encoding", coding)]
    connection = RawConnection(h.host)
    connection.send(request_bytes("PUT", h.path("new"), head_of(h, *more, method="PUT", path=h.path("new")), body))
    answers = 0
    try:
        while True:
            answer = connection.read_response("PUT")
            h.judge(answer, "PUT", exempt=True)
            answers += 1
            assert answer.status != 204, "the hidden request was answered"
            if answers == 1:
                owed(answer, 400, 411, 501)
            if not answer.keeps_open or connection.is_closed_within(2):
                break
    except (Closed, TimeoutError):
        pass
    connection.close()
    assert answers <= 1


LENGTHS = [("3", "4"), ("1, 2",), ("+1",), ("-1",), (str(2**64 + 1),), ("0x3",), ("",), ("3 3",), ("3abc",), ("３",)]


@pytest.mark.parametrize("values", LENGTHS, ids=ascii)
def test_row_165_odd_content_lengths(h, values):
    more = [("Content-Length", v) for v in values]
    raw(h, request_bytes("PUT", h.path("new"), head_of(h, *more, method="PUT", path=h.path("new")), b"abc"), 400, 411, method="PUT")


def test_row_165_one_length_twice(h):
    more = [("Content-Length", "3, 3")]
    answer = raw(h, request_bytes("PUT", h.path("new"), head_of(h, *more, method="PUT", path=h.path("new")), b"abc"), 400, 411, 200, method="PUT")
    if answer is not None and answer.status == 200:
        h.expected["new"] = b"abc"


BAD_LINES = {
    "folded": b"X-A: 1\r\n  folded", "space": b"X-A : 1", "nul": b"X-A: a\0b", "bare_cr": b"X-A: a\rX-Evil: 1",
    "no_colon": b"nonsense", "empty_name": b": value", "ctl": b"X-A: \x01", "high": b"X-\xff: 1",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
def test_row_167_malformed_header_lines(h, name):
    data = request_bytes("GET", h.path(), h.signed_headers("GET", h.path()))
    data = data[:-2] + BAD_LINES[name] + b"\r\n\r\n"
    raw(h, data, 400, *([200, 403] if name in ("folded", "bare_cr", "ctl") else []))


def test_row_168_bare_lf_and_hosts(h):
    good = request_bytes("GET", h.path(), h.signed_headers("GET", h.path()))
    raw(h, good.replace(b"\r\n", b"\n"), 400, 403)
    no_host = request_bytes("GET", h.path(), [p for p in h.signed_headers("GET", h.path()) if p[0] != "Host"])
    raw(h, no_host, 400)
    raw(h, request_bytes("GET", h.path(), [("Host", "other.example"), *h.signed_headers("GET", h.path())]), 400)


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:1/x", "ftp://x/y"])
def test_row_169_absolute_uris(h, target):
    raw(h, request_bytes("GET", target, [("Host", h.host)]), 400, 403, 404, 405, 421, 501)


@pytest.mark.parametrize("line", ["CONNECT 127.0.0.1:1", "TRACE /", "TRACE /x", "NONSENSE /", "GET", "OPTIONS *", "get /"])
def test_row_169_odd_methods(h, line):
    secret = "echo-me-not"
    answer = raw(h, f"{line} HTTP/1.1\r\nHost: {h.host}\r\nX-Secret: {secret}\r\n\r\n".encode(), 400, 403, 404, 405, 421, 501, method="HEAD" if False else "GET")
    assert answer is None or secret.encode() not in answer.body


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 1000, b"GET / HTTP/9.9\r\n\r\n",
                                  b"GET /\r\n\r\n", b"\r\n" * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], ids=range(6))  # fmt: skip
def test_row_168_what_is_not_http(h, data):
    raw(h, data, 400, 403, 404, 405, 431, 501, 505)


@pytest.mark.parametrize("where", ["path", "query"])
@pytest.mark.parametrize("size", [64 << 10, 1 << 20])
def test_row_171_long_targets(h, where, size):
    path = h.path() + "x" * size if where == "path" else h.path()
    query = [("q", "x" * size)] if where == "query" else []
    target = path + ("?" + wire_query(query) if query else "")
    answer = h.send(request_bytes("GET", target, h.signed_headers("GET", path, query)), may_close=True, exempt=True)
    owed_or_closed(answer, 414, 400, 431)


def closed_or_timed_out(connection, seconds):
    """Within `seconds`: closed, or 400/408 and then closed."""
    connection.socket.settimeout(seconds)
    try:
        answer = connection.read_response()
    except Closed:
        return
    except TimeoutError:
        raise AssertionError(f"still waiting after {seconds} s") from None
    assert answer.status in (400, 408), answer


def test_row_172_header_bytes_at_one_a_second(h):
    connection = RawConnection(h.host)
    began = time.monotonic()
    for byte in request_bytes("GET", h.path(), h.signed_headers("GET", h.path())):
        if time.monotonic() - began > 30:
            raise AssertionError("the server still reads headers after 30 s")
        if not connection.send(bytes([byte])):
            break
        # Waits for the pace that is tested; an answer ends it early.
        connection.socket.settimeout(1)
        try:
            peeked = connection.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        except ConnectionResetError:
            break
        if not peeked:
            break
        closed_or_timed_out(connection, 5)
        break
    connection.close()


@pytest.mark.parametrize("key", ["victim", "new"])
@pytest.mark.parametrize("length", [1000, 2_000_000])
def test_row_173_half_a_body_then_silence(h, key, length):
    headers = h.signed_headers("PUT", h.path(key), payload_hash=UNSIGNED)
    headers = [(n, str(length) if n == "Content-Length" else v) for n, v in headers]
    connection = RawConnection(h.host)
    connection.send(request_bytes("PUT", h.path(key), headers, b"x" * (length // 2)))
    closed_or_timed_out(connection, 30)
    connection.close()


def test_row_173_clients_that_leave_in_mid_body(h):
    for i in range(20):
        headers = h.signed_headers("PUT", h.path("victim"), payload_hash=UNSIGNED)
        headers = [(n, "5000000" if n == "Content-Length" else v) for n, v in headers]
        connection = RawConnection(h.host)
        connection.send(request_bytes("PUT", h.path("victim"), headers, b"x" * (200_000 * (i % 4))))
        connection.close()


def test_row_175_http2_is_refused_or_held(h):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" * 1000
    connection = RawConnection(h.host, 10)
    connection.send(preface)
    connection.finish_sending()
    assert connection.is_closed_within(10) or connection.buffer
    connection.close()


@pytest.mark.parametrize("size", [100, 100_000, 3_000_000])
def test_row_176_a_refused_body_is_never_read_as_requests(h, size):
    inner = request_bytes("DELETE", h.path(), h.signed_headers("DELETE", h.path()))
    body = inner * (size // len(inner) + 1)
    liar = h.signer(secret_key="w" * 40)
    headers = h.signed_headers("PUT", h.path("new"), payload_hash=UNSIGNED, signer=liar)
    headers = [(n, str(len(body)) if n == "Content-Length" else v) for n, v in headers]
    connection = RawConnection(h.host)
    sender = threading.Thread(target=connection.send, args=(request_bytes("PUT", h.path("new"), headers, body),))
    sender.start()
    try:
        answer = connection.read_response("PUT")
        h.judge(answer, "PUT")
        owed(answer, "403 SignatureDoesNotMatch")
        if answer.keeps_open:
            sender.join()
            h.still_in_step(connection)
    except Closed:
        assert size > 1_000_000, "a small body can be drained, so the refusal can be told"
    connection.close()
    sender.join()


PATHOLOGICAL = {
    "Accept": "a" * 3000 + "/" + "*" * 3000, "Range": "bytes=" + "0-," * 2000, "Content-Type": "a/b;" + " x=y;" * 1200,
    "If-None-Match": '"a' * 2500, "If-Match": "W/" * 3000, "Cookie": "a=b;" * 1800, "Accept-Encoding": "gzip;q=" + "0" * 6000,
    "If-Modified-Since": "Mon, " * 1500, "User-Agent": "(" * 6000,
}  # fmt: skip


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_row_177_values_built_to_blow_up(h, name):
    began = time.monotonic()
    owed(h.signed(unsigned=[(name, PATHOLOGICAL[name])]), 200, 206, 304, "4xx")
    assert time.monotonic() - began < 5


SUBRESOURCES = ["website", "torrent", "accelerate", "analytics", "intelligent-tiering", "inventory", "logging", "metrics",
                "notification", "replication", "requestPayment", "restore", "select", "metadataTable", "ownershipControls",
                "publicAccessBlock", "encryption", "policyStatus", "object-lock", "attributes-not"]  # fmt: skip


# Settings that nothing can have: a GET is built, and says so by a document of its own. Setting one is not.
READ_AS_ABSENT = {
    "accelerate": "AccelerateConfiguration", "logging": "BucketLoggingStatus", "notification": "NotificationConfiguration",
    "requestPayment": "RequestPaymentConfiguration", "ownershipControls": "OwnershipControls",
}  # fmt: skip


@pytest.mark.parametrize("name", SUBRESOURCES)
def test_row_179_subresources_that_are_not_built(h, name):
    unknown = [200, 204] if name == "attributes-not" else []
    for path in (h.path(None), h.path()):
        for method in ("PUT", "POST", "DELETE"):
            if unknown and method != "POST":
                continue
            answer = h.signed(method, path, [(name, None)], body=b"<X/>" if method in ("PUT", "POST") else b"")
            owed(answer, "501 NotImplemented", 400, 403, 404, 405, *unknown)
    bucket_get = h.signed("GET", h.path(None), [(name, None)])
    if name in READ_AS_ABSENT:
        owed(bucket_get, 200)
        assert bucket_get.xml().tag == READ_AS_ABSENT[name], "the base operation answered"
    elif not unknown:
        owed(bucket_get, 501, 400, 403, 404, 405)
    answer = owed(h.signed("GET", h.path(), [(name, None)]), 501, 400, 403, 404, 405, *unknown)
    if not unknown:
        assert answer.body != h.expected["victim"], "the base operation answered"


def test_row_180_two_subresources(h):
    owed(h.signed("GET", h.path(None), [("acl", None), ("policy", None)]), "400 InvalidArgument", 501)
    owed(h.signed("GET", h.path(None), [("uploads", None), ("location", None)]), "400 InvalidArgument", 501)
    owed(h.signed("GET", h.path(None), [("prefix", "a"), ("prefix", "b"), ("list-type", "2")]), "400 InvalidArgument", 501)
    owed(h.signed("PUT", h.path("new"), [("partNumber", "1"), ("partNumber", "2"), ("uploadId", "x")], body=b"x"), 400, 501)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_row_181_copy_source_where_nothing_is_copied(h, method):
    query = [("uploads", None)] if method == "POST" else []
    owed(h.signed(method, query=query, headers=[("x-amz-copy-source", "/a/b")]), "400 InvalidArgument")


def test_row_184_no_start_without_a_secret(cluster, is_external, tmp_path):
    if is_external:
        pytest.skip("needs the binary")
    import os

    env = {k: v for k, v in os.environ.items() if not k.startswith("RINGFORT_")}
    for args in (["node", "--data", tmp_path / "n"], ["gateway", "--data", tmp_path / "g"],
                 ["node", "--data", tmp_path / "j", "--join", ""], ["gateway", "--data", tmp_path / "k", "--join", "made-up"]):  # fmt: skip
        done = subprocess.run([cluster.binary, *map(str, args)], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and (done.stderr or done.stdout).strip(), f"{args} must be refused with a reason"


def test_row_184_internode_port_does_not_serve_strangers(cluster, is_external):
    """Whatever plain HTTP or noise is sent to a node's internode port, nothing is answered from the store."""
    if is_external:
        pytest.skip("needs our own nodes")
    address = cluster.nodes[0].argv  # the first node's address is in the folder's config; take it from the joiners' log
    listen = [a for n in cluster.nodes[1:] for a in [n.argv[n.argv.index("--listen") + 1]]]
    assert listen, address
    for target in listen:
        for noise in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 4096, b"\xff" * 4096):
            connection = RawConnection(target, 30)
            connection.send(noise)
            connection.finish_sending()
            connection.socket.settimeout(30)
            data = b""
            try:
                while piece := connection.socket.recv(65536):
                    data += piece
            except ConnectionResetError:
                pass
            assert b"200" not in data[:20] and len(data) < 4096
            connection.close()
    for node in cluster.nodes:
        assert node.is_alive


ADMIN_PATHS = [
    "/minio/admin/v3/info", "/minio/health/cluster", "/metrics", "/_/metrics", "/admin", "/admin/v1/keys", "/v1/status",
    "/v2/status", "/api/v1/status", "/debug/pprof/", "/debug/vars", "/env", "/actuator/env", "/status", "/cluster/init",
    "/console", "/internal", "/rpc", "/keys", "/ringfort", "/_ringfort", "/.ringfort", "/system", "/bootstrap", "/join",
    "/server-status", "/.env", "/config", "/v1/key/create",
]  # fmt: skip


@pytest.mark.parametrize("path", ADMIN_PATHS)
def test_row_188_no_admin_on_the_s3_port(h, path):
    liar = h.signer(secret_key="w" * 40)
    for method in ("GET", "POST"):
        answers = [
            h.send(request_bytes(method, path, [("Host", h.host), ("Content-Length", "0")]), method),
            h.signed(method, path, signer=liar),
        ]
        for answer in answers:
            owed(answer, "4xx")
            assert not re.search(rb"(?i)secret_key|PATH=|HOME=|RINGFORT_", answer.body)
    owed(h.signed("GET", path), "4xx")


@pytest.mark.parametrize("token", [None, "", "Bearer ", "Bearer wrong", "Bearer null", "Basic YWRtaW46YWRtaW4="])
def test_row_188_admin_port_wants_its_token(cluster, is_external, token):
    if is_external:
        pytest.skip("needs our own admin port")
    for address in (cluster.node_admin[0], cluster.gateway_admin[0]):
        for path in ("/v1/status", "/status", "/v1/keys", "/keys", "/api/v1/status", "/admin/v1/status", "/debug", "/env"):
            headers = [("Host", address), *([("Authorization", token)] if token is not None else [])]
            connection = RawConnection(address, 30)
            connection.send(request_bytes("GET", path, headers))
            answer = connection.read_response()
            connection.close()
            assert 400 <= answer.status < 500, answer
            assert cluster.keys.secret_key.encode() not in answer.body


def test_health_needs_no_credentials_and_says_little(h):
    answer = h.send(request_bytes("GET", "/health/ready", [("Host", h.host)]), exempt=True)
    assert answer.status == 200 and len(answer.body) < 500
