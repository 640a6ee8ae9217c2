"""Rows 103–147: headers, conditions, ranges, copies, multipart, sizes, XML."""

import base64
import hashlib
import threading

import pytest
from harness.owed import owed, owed_or_closed
from harness.raw import request_bytes
from harness.sigv4 import wire_query


@pytest.mark.parametrize("size", [16 << 10, 100 << 10, 1 << 20])
@pytest.mark.parametrize("many", [False, True])
def test_row_103_large_header_sections(h, size, many):
    more = [(f"x-filler-{i}", "v" * 1000) for i in range(size // 1000)] if many else [("x-filler", "v" * size)]
    answer = h.signed(unsigned=more) if size <= 16 << 10 else None
    if answer is None:
        data = request_bytes("GET", h.path(), [*h.signed_headers("GET", h.path()), *more])
        answer = h.send(data, may_close=size >= 100 << 10, exempt=True)
    owed_or_closed(answer, "400 RequestHeaderSectionTooLarge", 431)


@pytest.mark.parametrize("count", [101, 200, 20_000])
def test_row_104_many_headers(h, count):
    more = [(f"h{i}", "v") for i in range(count)]
    data = request_bytes("GET", h.path(), [*h.signed_headers("GET", h.path()), *more])
    answer = h.send(data, may_close=count > 1000, exempt=True)
    owed_or_closed(answer, 400, 431, *([200] if count < 1000 else []))


FEATURES = [
    ("x-amz-storage-class", "NONSENSE", ["400 InvalidStorageClass"]),
    ("x-amz-acl", "nonsense", ["400 InvalidArgument", "400 AccessControlListNotSupported", 501]),
    ("x-amz-server-side-encryption", "ROT13", ["400 InvalidEncryptionAlgorithmError", "400 InvalidArgument", 501]),
]


@pytest.mark.parametrize("name,value,accepted", FEATURES, ids=[f[0] for f in FEATURES])
def test_row_105_unknown_values(h, name, value, accepted):
    owed(h.signed("PUT", h.path("new"), headers=[(name, value)], body=b"x"), *accepted)
    owed(h.signed("POST", h.path("new"), [("uploads", None)], [(name, value)]), *accepted)


def test_row_107_redirect_location(h):
    header = ("x-amz-website-redirect-location", "javascript:alert(1)")
    owed(h.signed("PUT", h.path("new"), headers=[header], body=b"x"), "400 InvalidRedirectLocation", 501)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_row_108_another_owner_is_expected(h, method):
    header = ("x-amz-expected-bucket-owner", "999999999999")
    body = b"x" if method == "PUT" else b""
    owed(h.signed(method, headers=[header], body=body), "403 AccessDenied", 501)
    if method == "PUT":
        copy = [("x-amz-copy-source", h.path()), ("x-amz-source-expected-bucket-owner", "999999999999")]
        owed(h.signed("PUT", h.path("new"), headers=copy), "403 AccessDenied", 501)


OFFERS = [
    [("x-amz-server-side-encryption", "aws:kms"), ("x-amz-server-side-encryption-aws-kms-key-id", "k")],
    [("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00Z")],
    [("x-amz-object-lock-legal-hold", "ON")],
    [("x-amz-server-side-encryption-customer-algorithm", "AES256")],
    [("x-amz-grant-read", 'uri="http://acs.amazonaws.com/groups/global/AllUsers"')],
]


@pytest.mark.parametrize("headers", OFFERS, ids=lambda v: v[0][0])
def test_row_109_features_not_offered(h, headers):
    answer = owed(h.signed("PUT", h.path("new"), headers=headers, body=b"x"), 501, 400, 200)
    if answer.status == 200:
        h.expected["new"] = b"x"
        head = owed(h.signed("HEAD", h.path("new")), 200)
        assert head.header(headers[0][0]) == headers[0][1], "a silent drop is a false promise"


def test_row_111_if_none_match_with_an_etag(h):
    owed(h.signed("PUT", headers=[("if-none-match", '"abc"')], body=b"x"), "501 NotImplemented", 400, 412)


def test_row_112_if_match(h):
    owed(h.signed("PUT", headers=[("if-match", '"abc"')], body=b"x"), "412 PreconditionFailed")
    owed(h.signed("PUT", h.path("new"), headers=[("if-match", '"abc"')], body=b"x"), "404 NoSuchKey")


def race(calls):
    answers, failures = [None] * len(calls), []

    def run(i):
        try:
            answers[i] = calls[i]()
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise failures[0]
    return answers


@pytest.mark.parametrize("turn", range(5))
def test_row_113_racing_puts(h, turn):
    bodies = [f"writer {i}".encode() * 50 for i in range(6)]
    create = [("if-none-match", "*")]
    answers = race([lambda b=b: h.signed("PUT", h.path("raced"), headers=create, body=b) for b in bodies])
    winners = [i for i, a in enumerate(answers) if a.status == 200]
    assert len(winners) == 1, answers
    for a in answers:
        owed(a, 200, "412 PreconditionFailed", "409 ConditionalRequestConflict")
    h.expected["raced"] = bodies[winners[0]]


def test_row_113_racing_completes(h):
    completes = []
    for i in range(4):
        upload = h.s3.create_multipart_upload(Bucket=h.bucket, Key="raced")["UploadId"]
        part = h.s3.upload_part(Bucket=h.bucket, Key="raced", UploadId=upload, PartNumber=1, Body=b"%d" % i)
        completes.append((upload, complete_body([(1, part["ETag"])])))
    answers = race([
        lambda u=u, b=b: h.signed("POST", h.path("raced"), [("uploadId", u)], [("if-none-match", "*")], b)
        for u, b in completes
    ])  # fmt: skip
    assert sum(a.status == 200 and b"<Error>" not in a.body for a in answers) == 1, answers
    h.expected["raced"] = None


RANGES = ["bytes=5-2", "items=0-1", "garbage", "", "bytes=", "bytes=-", "bytes=1-2-3", "bytes=a-b", "bytes 0-1",
          "bytes=99999999999999999999-99999999999999999999", "bytes=0-99999999999999999999"]  # fmt: skip


@pytest.mark.parametrize("value", RANGES)
def test_row_115_odd_ranges(h, value):
    answer = owed(h.signed(headers=[("range", value)]), 200, 416, *([206] if "9999" in value else []))
    if answer.status in (200, 206):
        assert answer.body == h.expected["victim"]


@pytest.mark.parametrize("count", [2, 500])
def test_row_116_many_ranges(h, count):
    for value in ("bytes=" + ",".join(f"{i % 5}-{i % 5 + 1}" for i in range(count)), "bytes=" + ",".join(["0-"] * count)):
        answer = owed(h.signed(headers=[("range", value)]), 200, 206, 400, 416, 501)
        assert len(answer.body) <= max(1500, len(h.expected["victim"]))


def test_row_117_part_numbers(h):
    owed(h.signed(query=[("partNumber", "0")]), "400 InvalidArgument")
    owed(h.signed(query=[("partNumber", "abc")]), "400 InvalidArgument")
    owed(h.signed(query=[("partNumber", "2")]), "416 InvalidPartNumber", 416)
    owed(h.signed(query=[("partNumber", "1")], headers=[("range", "bytes=0-1")]), "400 InvalidRequest")


@pytest.mark.parametrize("key", ["victim", "new"])
def test_row_119_empty_copy_source(h, key):
    owed(h.signed("PUT", h.path(key), headers=[("x-amz-copy-source", "")]), "400 InvalidArgument")


SOURCES = ["bucket", "/bucket", "/bucket/", "/", "//", "/BUCKET/a%ZZ", "http://example.com/b/k", "/../etc/passwd",
           "/BUCKET/../other/k", "/BUCKET/%2e%2e/k", "/BUCKET/a%00b", "/BUCKET/victim?versionId=garbage",
           "/BUCKET/victim?versionId=", "?versionId=x", "/BUCKET/%ff"]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_row_120_odd_copy_sources(h, source):
    source = source.replace("BUCKET", h.bucket)
    owed(h.signed("PUT", h.path("new"), headers=[("x-amz-copy-source", source)]), "400 InvalidArgument", 400, 403, 404)


def test_row_121_an_encoded_question_mark_is_part_of_the_key(h):
    source = f"/{h.bucket}/victim%3FversionId=zz"
    owed(h.signed("PUT", h.path("new"), headers=[("x-amz-copy-source", source)]), 404, 400)
    h.put("victim?versionId=zz", b"the literal key")
    owed(h.signed("PUT", h.path("new"), headers=[("x-amz-copy-source", source)]), 200)
    h.expected["new"] = b"the literal key"


def test_row_123_onto_itself(h):
    owed(h.signed("PUT", headers=[("x-amz-copy-source", h.path())]), "400 InvalidRequest")


def test_row_124_a_copy_with_a_body(h):
    answer = h.signed("PUT", h.path("new"), headers=[("x-amz-copy-source", h.path())], body=b"GET / HTTP/1.1\r\n\r\n")
    owed(answer, "400 InvalidRequest", 200)
    if answer.status == 200:
        h.expected["new"] = h.expected["victim"]


@pytest.mark.parametrize("value", ["bytes=0-99999", "bytes=5-2", "bytes=-5", "bytes=5-", "0-1", "garbage", "bytes=0-1,2-3", ""])
def test_row_125_copy_source_ranges(h, value):
    upload = h.s3.create_multipart_upload(Bucket=h.bucket, Key="m")["UploadId"]
    headers = [("x-amz-copy-source", h.path()), ("x-amz-copy-source-range", value)]
    query = [("partNumber", "1"), ("uploadId", upload)]
    owed(h.signed("PUT", h.path("m"), query, headers), "400 InvalidArgument", "400 InvalidRange", 416)
    answer = owed(h.signed("PUT", h.path("new"), headers=headers), 400, 200)
    if answer.status == 200:
        h.expected["new"] = h.expected["victim"]


def complete_body(parts):
    inner = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts)
    return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()


@pytest.fixture
def upload(h):
    """(upload id, etag of part 1)"""
    made = h.s3.create_multipart_upload(Bucket=h.bucket, Key="m")["UploadId"]
    part = h.s3.upload_part(Bucket=h.bucket, Key="m", UploadId=made, PartNumber=1, Body=b"part")
    return made, part["ETag"]


def complete(h, upload_id, body, key="m"):
    return h.signed("POST", h.path(key), [("uploadId", upload_id)], body=body)


IDS = ["unknown", "../../etc/passwd", "x" * 5000, "%00", "", "a/b", "00000000-0000-0000-0000-000000000000"]


@pytest.mark.parametrize("upload_id", [*IDS, "OTHER KEY"], ids=lambda v: v[:16])
def test_row_127_foreign_upload_ids(h, upload, upload_id):
    key = "m"
    if upload_id == "OTHER KEY":
        upload_id, key = upload[0], "other"
    accepted = ["404 NoSuchUpload"]
    if upload_id == "":
        accepted += ["400 InvalidArgument", 400]
    if len(upload_id) > 1000:
        accepted += [400, 414]
    query = [("uploadId", upload_id)]
    owed(h.signed("PUT", h.path(key), [("partNumber", "1"), *query], body=b"x"), *accepted)
    owed(complete(h, upload_id, complete_body([(1, upload[1])]), key), *accepted)
    owed(h.signed("DELETE", h.path(key), query), *accepted)
    owed(h.signed("GET", h.path(key), query), *accepted)


DOCUMENTS = {
    "empty": b"", "no_parts": complete_body([]), "garbage": b"\x00\xff garbage", "text": b"hello",
    "other_root": b"<Delete><Object><Key>victim</Key></Object></Delete>", "unclosed": b"<CompleteMultipartUpload><Part>",
    "no_number": b"<CompleteMultipartUpload><Part><ETag>x</ETag></Part></CompleteMultipartUpload>",
    "no_etag": b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_row_128_odd_documents(h, upload, name):
    owed(complete(h, upload[0], DOCUMENTS[name]), "400 MalformedXML", "400 InvalidRequest", "400 MissingRequestBodyError")


@pytest.mark.parametrize("number", ["99999999999999999999", "-1", "0", "1.5", "x", "", "10001"])
def test_row_128_odd_part_numbers(h, upload, number):
    answer = complete(h, upload[0], complete_body([(number, upload[1])]))
    owed(answer, "400 MalformedXML", "400 InvalidRequest", "400 InvalidPart", "400 InvalidArgument")


def test_row_129_missing_parts_and_wrong_etags(h, upload):
    for parts in ([(2, upload[1])], [(1, '"' + "0" * 32 + '"')], [(1, upload[1]), (2, upload[1])]):
        owed(complete(h, upload[0], complete_body(parts)), "400 InvalidPart")
    for etag in ("", "e" * 100_000, "&lt;script&gt;&#13;&#10;X-Evil: 1", "&#0;"):
        answer = complete(h, upload[0], complete_body([(1, etag)]))
        owed(answer, "400 InvalidPart", "400 MalformedXML")
        assert b"<script>" not in answer.body and answer.header("x-evil") is None and len(answer.body) < 10_000


def test_row_131_a_small_part_in_the_middle(h, upload):
    two = h.s3.upload_part(Bucket=h.bucket, Key="m", UploadId=upload[0], PartNumber=2, Body=b"last")["ETag"]
    owed(complete(h, upload[0], complete_body([(1, upload[1]), (2, two)])), "400 EntityTooSmall")


def test_row_132_very_long_lists(h, upload):
    body = complete_body([(i, upload[1]) for i in range(1, 10_002)])
    owed(complete(h, upload[0], body), "400 MalformedXML", 400)
    part = "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag><ChecksumSHA256>{}</ChecksumSHA256></Part>"
    sha = base64.b64encode(hashlib.sha256(b"part").digest()).decode()
    inner = "".join(part.format(i, upload[1], sha) for i in range(1, 10_001))
    legal = f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()
    assert len(legal) > 1_200_000
    owed(complete(h, upload[0], legal), "400 InvalidPart", "400 EntityTooSmall")


def test_row_133_twice_and_after_abort(h, upload):
    body = complete_body([(1, upload[1])])
    first = owed(complete(h, upload[0], body), 200).xml().findtext("ETag")
    h.expected["m"] = None
    again = owed(complete(h, upload[0], body), 200, "404 NoSuchUpload")
    assert again.status == 404 or again.xml().findtext("ETag") == first
    owed(h.signed("DELETE", h.path("m"), [("uploadId", upload[0])]), "404 NoSuchUpload", 204)
    assert owed(h.signed(path=h.path("m")), 200).body == b"part"


@pytest.mark.parametrize("turn", range(5))
def test_row_133_complete_racing_abort(h, upload, turn):
    done, _ = race([
        lambda: complete(h, upload[0], complete_body([(1, upload[1])])),
        lambda: h.signed("DELETE", h.path("m"), [("uploadId", upload[0])]),
    ])  # fmt: skip
    there = h.signed(path=h.path("m"))
    if done.status == 200 and b"<Error>" not in done.body:
        assert there.status == 200 and there.body == b"part", "an acknowledged complete was lost"
        h.expected["m"] = None
    else:
        owed(done, "404 NoSuchUpload")
        owed(there, "404 NoSuchKey")


@pytest.mark.parametrize("length", [(5 << 30) + 1, 1 << 62, 10**18])
@pytest.mark.parametrize("part", [False, True])
def test_row_135_more_than_5_gib(h, upload, length, part):
    path, query = (h.path("m"), [("partNumber", "1"), ("uploadId", upload[0])]) if part else (h.path("new"), [])
    headers = h.signed_headers("PUT", path, query, payload_hash="UNSIGNED-PAYLOAD")
    headers = [(n, str(length) if n == "Content-Length" else v) for n, v in headers] + [("Expect", "100-continue")]
    answer = h.send(request_bytes("PUT", path + ("?" + wire_query(query) if query else ""), headers), "PUT")
    owed(answer, "400 EntityTooLarge", 413)


def test_row_136_no_length(h):
    headers = [(n, v) for n, v in h.signed_headers("PUT", h.path("new")) if n != "Content-Length"]
    owed(h.send(request_bytes("PUT", h.path("new"), headers), "PUT"), "411 MissingContentLength")


def test_row_137_plain_chunked(h):
    headers = h.signed_headers("PUT", h.path("new"), payload_hash="UNSIGNED-PAYLOAD")
    headers = [(n, v) for n, v in headers if n != "Content-Length"] + [("Transfer-Encoding", "chunked")]
    answer = h.send(request_bytes("PUT", h.path("new"), headers, b"3\r\nabc\r\n0\r\n\r\n"), "PUT")
    owed(answer, "411 MissingContentLength", 501, 400)


def delete_objects(h, body):
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    return h.signed("POST", h.path(None), [("delete", None)], [("content-md5", md5)], body)


OBJECT = b"<Object><Key>victim</Key></Object>"
ENTITIES = {
    "laughs": b'<!DOCTYPE d [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 10 if i else b"&a;" * 10) for i in range(10))
    + b"]><Delete><Object><Key>&a9;</Key></Object></Delete>",
    "quadratic": b'<!DOCTYPE d [<!ENTITY a "' + b"x" * 50_000 + b'">]><Delete><Object><Key>' + b"&a;" * 5000 + b"</Key></Object></Delete>",
    "file": b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&x;</Key></Object></Delete>',
    "url": b'<!DOCTYPE d [<!ENTITY x SYSTEM "http://127.0.0.1:1/">]><Delete><Object><Key>&x;</Key></Object></Delete>',
    "parameter": b'<!DOCTYPE d [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><Delete>' + OBJECT.replace(b"victim", b"no") + b"</Delete>",
}  # fmt: skip


@pytest.mark.parametrize("name", ["laughs", "quadratic"])
def test_row_139_entities(h, upload, name):
    owed(delete_objects(h, ENTITIES[name]), "400 MalformedXML")
    owed(complete(h, upload[0], ENTITIES[name].replace(b"Delete>", b"CompleteMultipartUpload>")), "400 MalformedXML")


@pytest.mark.parametrize("name", ["file", "url", "parameter"])
def test_row_140_external_entities(h, name):
    answer = owed(delete_objects(h, ENTITIES[name]), "400 MalformedXML", *([200] if name == "parameter" else []))
    assert b"root:" not in answer.body


def test_row_141_deep_nesting(h):
    owed(delete_objects(h, b"<a>" * 20_000), "400 MalformedXML")
    owed(delete_objects(h, b"<Delete>" + b"<a>" * 20_000 + b"</a>" * 20_000 + b"</Delete>"), 400, 200)


XMLS = {
    "unknown_element": b"<Delete><Sugar>1</Sugar><Object><Key>gone</Key></Object></Delete>",
    "namespace": b'<x:Delete xmlns:x="http://other/"><x:Object><x:Key>gone</x:Key></x:Object></x:Delete>',
    "odd_boolean": b"<Delete><Quiet>perhaps</Quiet><Object><Key>gone</Key></Object></Delete>",
}


@pytest.mark.parametrize("name", XMLS)
def test_row_143_odd_xml(h, name):
    owed(delete_objects(h, XMLS[name]), 200, "400 MalformedXML")


def test_row_144_1001_keys(h):
    keys = b"".join(b"<Object><Key>k%d</Key></Object>" % i for i in range(1000))
    owed(delete_objects(h, b"<Delete>" + OBJECT + keys + b"</Delete>"), "400 MalformedXML")


@pytest.mark.parametrize("size", [5 << 20, 32 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_row_145_huge_documents(h, size, chunked):
    body = b"<Delete>" + OBJECT + b" " * size + b"</Delete>"
    if not chunked:
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        headers = h.signed_headers("POST", h.path(None), [("delete", None)], [("content-md5", md5)], body)
        data = body
    else:
        headers = h.signed_headers("POST", h.path(None), [("delete", None)], payload_hash="UNSIGNED-PAYLOAD")
        headers = [(n, v) for n, v in headers if n != "Content-Length"] + [("Transfer-Encoding", "chunked")]
        data = b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    answer = h.send(request_bytes("POST", h.path(None) + "?delete", headers, data), "POST", may_close=size > 6 << 20)
    owed_or_closed(answer, "400 MalformedXML", "400 MaxMessageLengthExceeded", 400, 413, *([411, 501] if chunked else []))


def test_row_147_empty_documents(h, upload):
    owed(delete_objects(h, b""), "400 MissingRequestBodyError", "400 MalformedXML", 400)
    owed(complete(h, upload[0], b""), 400)
    for name in ("tagging", "versioning", "lifecycle", "cors", "policy", "acl"):
        owed(h.signed("PUT", h.path(None), [(name, None)]), 400, 411, 501)


@pytest.mark.parametrize("body", [b"not json", b"{}", b'{"Statement":[]}', b"[" * 100_000, b'{"Statement":[{"Effect":"Perhaps"}]}'])
def test_row_148_odd_policies(h, body):
    owed(h.signed("PUT", h.path(None), [("policy", None)], body=body), "400 MalformedPolicy", 501)


def test_row_152_no_cors_headers_without_rules(h):
    for origin in ("https://evil.example", "null"):
        for answer in (
            h.signed(unsigned=[("Origin", origin)]),
            h.send(request_bytes("GET", h.path(), [("Host", h.host), ("Origin", origin)])),
        ):
            assert not [n for n, _ in answer.headers if n.lower().startswith("access-control-")]


def test_row_153_preflight_without_rules(h):
    ask = [("Host", h.host), ("Origin", "https://evil.example"), ("Access-Control-Request-Method", "PUT")]
    owed(h.send(request_bytes("OPTIONS", h.path(), ask), "OPTIONS"), "403 AccessForbidden", "403 AccessDenied", 501)
    owed(h.send(request_bytes("OPTIONS", h.path(), ask[:1]), "OPTIONS"), "400 BadRequest", 400, 403, 501)


def test_row_161_post_of_another_type(h):
    answer = h.signed("POST", h.path(None), headers=[("content-type", "text/plain")], body=b"hello")
    owed(answer, "412 PreconditionFailed", "400 MalformedPOSTRequest", 501)
