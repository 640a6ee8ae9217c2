"""Rows 29–56: payload hashes, aws-chunked bodies and trailers."""

import pytest
from harness.owed import owed, owed_or_closed
from harness.raw import request_bytes
from harness.sigv4 import (
    STREAMING_SIGNED,
    STREAMING_SIGNED_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED,
    crc32_base64,
    sha256_hex,
)

BODY = bytes(range(256)) * 800  # 204,800 bytes: four chunks of 64 KiB


def good_trailer(body=BODY):
    return [("x-amz-checksum-crc32", crc32_base64(body))]


def test_good_streams_are_accepted(h):
    owed(h.streaming(BODY, "s1"), 200)
    owed(h.streaming(BODY, "s2", STREAMING_SIGNED_TRAILER, trailers=good_trailer()), 200)
    owed(h.streaming(BODY, "s3", STREAMING_UNSIGNED_TRAILER, trailers=good_trailer()), 200)
    owed(h.streaming(b"", "s4"), 200)
    owed(h.streaming(BODY, "s5", extra=[("content-type", "x/y")]), 200)
    h.expected.update({"s1": BODY, "s2": BODY, "s3": BODY, "s4": b"", "s5": BODY})


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_row_029_no_content_sha256(h, method):
    signer = h.signer()
    body = b"x" if method == "PUT" else b""
    headers = [("Host", h.host), ("x-amz-date", signer.date)]
    path = h.path("new" if method == "PUT" else "victim")
    headers.append(("Authorization", signer.header_auth(method, path, [], headers, sha256_hex(body))))
    headers.append(("Content-Length", str(len(body))))
    owed(h.send(request_bytes(method, path, headers, body), method), "400 InvalidRequest")


@pytest.mark.parametrize("key", ["victim", "new"])
@pytest.mark.parametrize("size", [0, 10, 65536, 5 << 20])
def test_row_031_wrong_sha256(h, key, size):
    answer = h.signed("PUT", h.path(key), body=b"b" * size, payload_hash=sha256_hex(b"something else"))
    owed(answer, "400 XAmzContentSHA256Mismatch")


def test_row_031_wrong_sha256_of_a_part(h):
    upload = h.s3.create_multipart_upload(Bucket=h.bucket, Key="m")["UploadId"]
    query = [("partNumber", "1"), ("uploadId", upload)]
    owed(h.signed("PUT", h.path("m"), query, body=b"x", payload_hash=sha256_hex(b"y")), "400 XAmzContentSHA256Mismatch")
    assert "Parts" not in h.s3.list_parts(Bucket=h.bucket, Key="m", UploadId=upload)


def test_row_032_unsigned_payload_with_a_forged_signature(h):
    liar = h.signer(secret_key="w" * 40)
    owed(h.signed("PUT", h.path("new"), body=b"x", payload_hash=UNSIGNED, signer=liar), "403 SignatureDoesNotMatch")


@pytest.mark.parametrize("mode", [STREAMING_UNSIGNED_TRAILER, STREAMING_SIGNED, STREAMING_SIGNED_TRAILER])
def test_row_033_streaming_with_a_forged_signature(h, mode):
    trailers = None if mode == STREAMING_SIGNED else good_trailer()
    owed(h.streaming(BODY, mode=mode, trailers=trailers, forge=True), "403 SignatureDoesNotMatch")


STREAMING = [STREAMING_SIGNED, STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER]


@pytest.mark.parametrize("mode", STREAMING)
@pytest.mark.parametrize("what", ["get", "delete", "create", "config"])
def test_row_035_streaming_keyword_where_no_object_is_put(h, mode, what):
    new_bucket = h.bucket + "-made"
    method, path, query = {
        "get": ("GET", h.path(), ()),
        "delete": ("DELETE", h.path(), ()),
        "create": ("PUT", f"/{new_bucket}", ()),
        "config": ("PUT", h.path(None), [("versioning", None)]),
    }[what]
    answer = h.signed(method, path, query, payload_hash=mode)
    owed(answer, "400 InvalidRequest", 400, 403, 411, *([501] if what == "config" else []))
    owed(h.signed("HEAD", f"/{new_bucket}"), 404)


@pytest.mark.parametrize("mode", STREAMING)
def test_row_036_anonymous_streaming(h, mode):
    headers = [("Host", h.host), ("x-amz-content-sha256", mode), ("x-amz-decoded-content-length", "3")]
    body = b"3;chunk-signature=" + b"0" * 64 + b"\r\nabc\r\n0;chunk-signature=" + b"0" * 64 + b"\r\n\r\n"
    headers.append(("Content-Length", str(len(body))))
    owed(h.send(request_bytes("PUT", h.path("new"), headers, body), "PUT"), "400 InvalidRequest", 400, 403)


@pytest.mark.parametrize("mode", ["STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-NONSENSE"])
def test_row_037_sigv4a_streaming(h, mode):
    owed(h.signed("PUT", h.path("new"), body=b"x", payload_hash=mode), "501 NotImplemented", 400, 403)


MODES = [(STREAMING_SIGNED, None), (STREAMING_SIGNED_TRAILER, good_trailer()), (STREAMING_UNSIGNED_TRAILER, good_trailer())]


@pytest.mark.parametrize("mode,trailers", MODES, ids=STREAMING)
@pytest.mark.parametrize("key", ["victim", "new"])
@pytest.mark.parametrize("off", [-1, 1])
def test_row_039_decoded_length_off_by_one(h, mode, trailers, key, off):
    owed(h.streaming(BODY, key, mode, decoded=str(len(BODY) + off), trailers=trailers), "400 IncompleteBody", 400)


@pytest.mark.parametrize("mode,trailers", MODES, ids=STREAMING)
def test_row_040_no_decoded_length(h, mode, trailers):
    owed(h.streaming(BODY, mode=mode, decoded=False, trailers=trailers), "411 MissingContentLength")
    owed(h.streaming(BODY, mode=mode, decoded="", trailers=trailers), "411 MissingContentLength", "400 InvalidArgument")


@pytest.mark.parametrize("value", ["-1", "18446744073709551616", "1e9", "0x10", "1,1", "1 1", "+5", "99999999999999999999999"])
def test_row_041_odd_decoded_length(h, value):
    owed(h.streaming(BODY, decoded=value), "400 InvalidArgument", 400, 411, 413)


def test_row_043_a_small_chunk_in_the_middle(h):
    answer = owed(h.streaming(BODY, chunk_bytes=8191), "400 InvalidChunkSizeError")
    assert b"<Chunk>" in answer.body and b"<BadChunkSize>8191<" in answer.body
    owed(h.streaming(BODY, "ok", chunk_bytes=8192), 200)
    h.expected["ok"] = BODY


def test_row_044_chunks_without_signature(h):
    bare = lambda i, header, data: header.split(b";")[0] + b"\r\n" + data + b"\r\n"  # noqa: E731
    owed(h.streaming(BODY, tamper=bare), "400 IncompleteBody", 400, 403)
    last = lambda i, header, data: bare(i, header, data) if not data else header + data + b"\r\n"  # noqa: E731
    owed(h.streaming(BODY, tamper=last), "400 IncompleteBody", 400, 403)


@pytest.mark.parametrize("where", [0, 1, 3, 4])
def test_row_044_a_forged_chunk_is_refused(h, where):
    def tamper(i, header, data):
        if i == where:
            header = header[:-6] + b"0000\r\n"
        return header + data + b"\r\n"

    owed(h.streaming(BODY, "victim", tamper=tamper), "403 SignatureDoesNotMatch")


def test_row_044_changed_chunk_data_is_refused(h):
    flip = lambda i, header, data: header + (b"!" + data[1:] if i == 2 else data) + b"\r\n"  # noqa: E731
    owed(h.streaming(BODY, "victim", tamper=flip), "403 SignatureDoesNotMatch")


SIZES = ["0" * 16 + "5", "fffffffffffffffff", "fffffffffffffff0", "ffffffffffffffff", "-5", "zz", "0x5", "+5", "",
         "5 ", "\x005", "5\x00", "5" * 4000]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda s: ascii(s)[:20])
@pytest.mark.parametrize("mode", [STREAMING_SIGNED, STREAMING_UNSIGNED_TRAILER])
def test_row_045_odd_chunk_sizes(h, size, mode):
    def edit(data):
        first_line, _, rest = data.partition(b"\r\n")
        _, semicolon, signature = first_line.partition(b";")
        return size.encode() + semicolon + signature + b"\r\n" + rest

    trailers = None if mode == STREAMING_SIGNED else good_trailer(b"hello")
    answer = h.streaming(b"hello", mode=mode, trailers=trailers, edit=edit)
    owed(answer, "400 IncompleteBody", 400, 413)


@pytest.mark.parametrize("mode,trailers", [MODES[0], MODES[2]], ids=[STREAMING_SIGNED, STREAMING_UNSIGNED_TRAILER])
@pytest.mark.parametrize("which", [0, 1])
def test_row_047_bare_lf(h, mode, trailers, which):
    def edit(data):
        size_line, _, rest = data.partition(b"\r\n")
        if which == 0:
            return size_line + b"\n" + rest
        return size_line + b"\r\n" + rest[:65536] + b"\n" + rest[65538:]

    also = [403] if mode == STREAMING_SIGNED else []
    owed(h.streaming(BODY, mode=mode, trailers=trailers, edit=edit), "400 IncompleteBody", 400, *also)


@pytest.mark.parametrize("mode,trailers", MODES, ids=STREAMING)
@pytest.mark.parametrize("finish", [False, True], ids=["body_ends", "client_leaves"])
def test_row_048_cut_inside_a_chunk(h, mode, trailers, finish):
    answer = h.streaming(
        BODY, "victim", mode, trailers=trailers, edit=lambda d: d[: 65536 + 20000], finish=finish, may_close=finish
    )
    owed_or_closed(answer, "400 IncompleteBody", *(["4xx"] if finish else [400]))


@pytest.mark.parametrize("mode,trailers", MODES, ids=STREAMING)
def test_row_049_no_final_chunk(h, mode, trailers):
    def edit(data):
        marker = b"\r\n0\r\n" if mode == STREAMING_UNSIGNED_TRAILER else b"\r\n0;chunk-signature="
        return data[: data.rindex(marker) + 2]

    owed(h.streaming(BODY, mode=mode, trailers=trailers, edit=edit), "400 IncompleteBody", 400)


TRAILER_MODES = [STREAMING_SIGNED_TRAILER, STREAMING_UNSIGNED_TRAILER]


@pytest.mark.parametrize("mode", TRAILER_MODES)
@pytest.mark.parametrize("key", ["victim", "new"])
def test_row_051_trailing_checksum_does_not_match(h, mode, key):
    owed(h.streaming(BODY, key, mode, trailers=good_trailer(b"other")), "400 BadDigest")


@pytest.mark.parametrize("mode", TRAILER_MODES)
@pytest.mark.parametrize("value", ["!!!!", "AAA", "AAAAAAAAAAAA", ""])
def test_row_052_malformed_trailing_checksum(h, mode, value):
    answer = h.streaming(BODY, mode=mode, trailers=[("x-amz-checksum-crc32", value)])
    owed(answer, "400 InvalidRequest", "400 InvalidDigest", "400 BadDigest", "400 MalformedTrailerError")


UNDECLARED = {
    "differs": ("x-amz-checksum-sha256", good_trailer()),
    "missing": ("x-amz-checksum-crc32", []),
    "undeclared": ("x-amz-checksum-crc32", [*good_trailer(), ("x-amz-meta-evil", "1")]),
    "none_declared": ("", [("x-amz-checksum-crc32", crc32_base64(BODY))]),
}


@pytest.mark.parametrize("mode", TRAILER_MODES)
@pytest.mark.parametrize("name", UNDECLARED)
def test_row_053_trailers_other_than_declared(h, mode, name):
    declare, trailers = UNDECLARED[name]
    answer = h.streaming(BODY, mode=mode, declare=declare, trailers=trailers)
    owed(answer, "400 MalformedTrailerError", "400 InvalidRequest", "400 IncompleteBody")


@pytest.mark.parametrize("how", ["wrong", "absent"])
def test_row_055_trailer_signature(h, how):
    def edit(data):
        start = data.rindex(b"x-amz-trailer-signature:")
        if how == "absent":
            return data[:start] + b"\r\n"
        return data[: start + 24] + b"0" * 64 + b"\r\n\r\n"

    answer = h.streaming(BODY, "victim", STREAMING_SIGNED_TRAILER, trailers=good_trailer(), edit=edit)
    owed(answer, "403 SignatureDoesNotMatch", 400)


@pytest.mark.parametrize("trailers", [[("x-amz-meta-a", "v" * 10_000_000)], [("a", "b")] * 100_000], ids=["10MB", "100000"])
@pytest.mark.parametrize("mode", TRAILER_MODES)
def test_row_056_huge_trailers(h, mode, trailers):
    answer = h.streaming(
        b"x", mode=mode, declare="x-amz-checksum-crc32", trailers=[*good_trailer(b"x"), *trailers], may_close=True
    )
    owed_or_closed(answer, "400 MalformedTrailerError", 400, 413, 431)
