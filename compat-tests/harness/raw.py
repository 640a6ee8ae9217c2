"""HTTP/1.1 by hand over a socket: sends exactly the given bytes, and reads what comes back without mercy.

A response is read to its stated end and no further, so a server that says more or less than it declared shows.
"""

import re
import socket
import time
import xml.etree.ElementTree as ElementTree


class Closed(Exception):
    """The server closed the connection before a whole answer."""


class Response:
    def __init__(self, status, reason, headers, body, keeps_open):
        self.status, self.reason, self.headers, self.body = status, reason, headers, body
        self.keeps_open = keeps_open

    def header(self, name, default=None):
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return default

    def header_all(self, name):
        return [v for k, v in self.headers if k.lower() == name.lower()]

    @property
    def code(self):
        """S3's error code, '' when there is none."""
        if not self.body.lstrip().startswith(b"<"):
            return ""
        try:
            root = ElementTree.fromstring(self.body)
        except ElementTree.ParseError:
            return ""
        return root.findtext("Code") or "" if root.tag == "Error" else ""

    def xml(self):
        """The document without namespaces."""
        text = re.sub(rb'\sxmlns="[^"]*"', b"", self.body, count=1)
        return ElementTree.fromstring(text)

    def __repr__(self):
        return f"<{self.status} {self.code} {self.body[:300]!r}>"


class RawConnection:
    def __init__(self, address, timeout_seconds=35):
        host, _, port = address.rpartition(":")
        self.address = address
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.is_open = True

    def send(self, data):
        """Sends everything; False when the server closed or reset meanwhile (an answer may still be readable)."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def finish_sending(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.close()
            return False
        self.buffer += data
        return True

    def _until(self, marker, limit=1 << 20):
        while marker not in self.buffer:
            if len(self.buffer) > limit or not self._more():
                raise Closed(f"no {marker!r} before the end; got {self.buffer[:200]!r}")
        head, _, self.buffer = self.buffer.partition(marker)
        return head

    def _exactly(self, count):
        while len(self.buffer) < count:
            if not self._more():
                raise Closed(f"closed after {len(self.buffer)} of {count} bytes of body")
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_response(self, method="GET"):
        """The next final response (100 Continue is passed over). Raises Closed, or TimeoutError from the socket."""
        while True:
            head = self._until(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            match = re.fullmatch(rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?", lines[0])
            assert match, f"no HTTP status line: {lines[0][:200]!r}"
            status = int(match[1])
            headers = []
            for line in lines[1:]:
                name, colon, value = line.partition(b":")
                assert colon and re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), f"bad header line {line!r}"
                assert not re.search(rb"[\r\n\0]", value), f"control bytes in header {line!r}"
                headers.append((name.decode(), value.strip().decode("latin-1")))
            if status >= 200:
                break
        response = Response(status, match[2] or b"", headers, b"", True)
        coding = (response.header("transfer-encoding") or "").lower()
        length = response.header("content-length")
        connection = (response.header("connection") or "").lower()
        if method == "HEAD" or status in (204, 304):
            pass
        elif coding == "chunked":
            response.body = self._chunked()
        elif length is not None:
            response.body = self._exactly(int(length))
        else:
            while self._more():
                pass
            response.body, self.buffer = self.buffer, b""
        response.keeps_open = self.is_open and "close" not in connection
        if not response.keeps_open:
            self.close()
        return response

    def _chunked(self):
        out = bytearray()
        while True:
            size = int(self._until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                while self._until(b"\r\n"):
                    pass
                return bytes(out)
            out += self._exactly(size)
            assert self._exactly(2) == b"\r\n"

    def is_closed_within(self, seconds):
        """True when the server ends the connection within that time without saying anything more."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.is_open:
            self.socket.settimeout(max(0.05, deadline - time.monotonic()))
            try:
                if not self._more():
                    return not self.buffer
            except TimeoutError:
                return False
        return not self.is_open

    def close(self):
        self.is_open = False
        self.socket.close()


def request_bytes(method, target, headers, body=b""):
    """The request as bytes; values may be str (latin-1 or utf-8) or bytes, and are not checked in any way."""
    as_bytes = lambda v: v if isinstance(v, bytes) else str(v).encode("utf-8")  # noqa: E731
    lines = [as_bytes(method) + b" " + as_bytes(target) + b" HTTP/1.1"]
    lines += [as_bytes(k) + b": " + as_bytes(v) for k, v in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
