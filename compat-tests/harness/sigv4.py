"""A small SigV4 signer for tests: every step is open, so that a test can get any one of them wrong.

Header and query authentication, and the aws-chunked writers (signed, unsigned, with trailers). Agrees with
botocore's signer (`hostile/test_signer.py`). Not for use outside tests: it compares nothing and checks nothing.
"""

import base64
import hashlib
import hmac
import zlib
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from .cluster import REGION

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def sha256_hex(data):
    return hashlib.sha256(data).hexdigest()


def mac(key, text):
    return hmac.new(key, text if isinstance(text, bytes) else text.encode(), hashlib.sha256).digest()


def amz_date(offset_seconds=0):
    return (datetime.now(timezone.utc) + timedelta(seconds=offset_seconds)).strftime("%Y%m%dT%H%M%SZ")


def uri_encode(raw, keep_slash):
    """Encodes bytes or text as SigV4 wants it: everything but unreserved characters."""
    return quote(raw, safe="/-_.~" if keep_slash else "-_.~")


def canonical_query(pairs):
    encoded = sorted((uri_encode(k, False), uri_encode(v, False)) for k, v in pairs)
    return "&".join(f"{k}={v}" for k, v in encoded)


def wire_query(pairs):
    """The query as sent: a value of None is a bare name."""
    return "&".join(uri_encode(k, False) + ("" if v is None else "=" + uri_encode(v, False)) for k, v in pairs)


class Signer:
    def __init__(self, access_key, secret_key, region=REGION, service="s3", date=None, scope_date=None):
        self.access_key, self.secret_key = access_key, secret_key
        self.region, self.service = region, service
        self.date = date or amz_date()
        self.scope_date = scope_date or self.date[:8]

    @property
    def scope(self):
        return f"{self.scope_date}/{self.region}/{self.service}/aws4_request"

    @property
    def signing_key(self):
        key = mac(b"AWS4" + self.secret_key.encode(), self.scope_date)
        for part in (self.region, self.service, "aws4_request"):
            key = mac(key, part)
        return key

    def sign_text(self, text):
        return mac(self.signing_key, text).hex()

    def canonical_request(self, method, path, query, headers, signed_names, payload_hash):
        by_name = {}
        for name, value in headers:
            by_name.setdefault(name.lower(), []).append(" ".join(str(value).split()))
        lines = "".join(f"{n}:{','.join(by_name.get(n, ['']))}\n" for n in signed_names)
        pairs = [(k, v or "") for k, v in query]
        return "\n".join([method, path, canonical_query(pairs), lines, ";".join(signed_names), payload_hash])

    def signature(self, method, path, query, headers, signed_names, payload_hash):
        canonical = self.canonical_request(method, path, query, headers, signed_names, payload_hash)
        text = f"AWS4-HMAC-SHA256\n{self.date}\n{self.scope}\n{sha256_hex(canonical.encode())}"
        return self.sign_text(text)

    def header_auth(self, method, path, query, headers, payload_hash, signed_names=None):
        """The Authorization value for a path that is already encoded; `headers` must hold Host and the x-amz-*."""
        if signed_names is None:
            signed_names = sorted({n.lower() for n, _ in headers if n.lower() not in ("authorization", "connection")})
        signature = self.signature(method, path, query, headers, signed_names, payload_hash)
        return (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self.scope}, "
            f"SignedHeaders={';'.join(signed_names)}, Signature={signature}"
        )

    def presign(self, method, path, query, host, expires=300, headers=()):
        """All query pairs of a presigned URL, the signature last."""
        headers = [("host", host), *headers]
        names = sorted(n.lower() for n, _ in headers)
        pairs = [
            *query,
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", f"{self.access_key}/{self.scope}"),
            ("X-Amz-Date", self.date),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", ";".join(names)),
        ]
        signature = self.signature(method, path, pairs, headers, names, UNSIGNED)
        return [*pairs, ("X-Amz-Signature", signature)]


def crc32_base64(data):
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def signed_chunks(signer, seed_signature, pieces, trailers=None, *, tamper=None):
    """An aws-chunked body, each chunk signed; `trailers` as [(name, value)] adds a signed trailer section.

    `tamper(index, header, data)` may replace what is sent for chunk `index` (the last, empty one included).
    """
    previous = seed_signature
    out = bytearray()
    for index, data in enumerate([*pieces, b""]):
        text = "\n".join(
            ["AWS4-HMAC-SHA256-PAYLOAD", signer.date, signer.scope, previous, EMPTY_SHA256, sha256_hex(data)]
        )
        previous = signer.sign_text(text)
        header = f"{len(data):x};chunk-signature={previous}\r\n".encode()
        tail = b"\r\n" if data or trailers is None else b""
        chunk = header + data + tail
        out += tamper(index, header, data) if tamper else chunk
    if trailers is not None:
        lines = "".join(f"{k}:{v}\n" for k, v in trailers)
        text = "\n".join(
            ["AWS4-HMAC-SHA256-TRAILER", signer.date, signer.scope, previous, sha256_hex(lines.encode())]
        )
        out += "".join(f"{k}:{v}\r\n" for k, v in trailers).encode()
        out += f"x-amz-trailer-signature:{signer.sign_text(text)}\r\n\r\n".encode()
    return bytes(out)


def unsigned_chunks(pieces, trailers=()):
    out = bytearray()
    for data in pieces:
        out += f"{len(data):x}\r\n".encode() + data + b"\r\n"
    out += b"0\r\n" + "".join(f"{k}:{v}\r\n" for k, v in trailers).encode() + b"\r\n"
    return bytes(out)
