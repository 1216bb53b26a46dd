"""The rules of HTTP/1.1 that httptools does not hold for a server, as pure functions of a parsed head (RFC 9112;
smuggling defence).

httptools (llhttp, strict) refuses most doubtful framing by itself. What it lets through is refused here. It reads no
socket and keeps no state; the protocol calls it once per request. The invariant: when in doubt, a fault.
"""

from __future__ import annotations

import re

from roadbed.wire import errors

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=%\-]+(?::\d*)?\Z|\[[0-9A-Fa-f:.]+\](?::\d*)?\Z")
_ABSOLUTE = re.compile(rb"https?://[^/]", re.IGNORECASE)
BODILESS = (b"GET", b"HEAD")


def find_fault(
    method: bytes,
    target: bytes,
    version: str,
    headers: list[tuple[bytes, bytes]],
    index: dict[bytes, bytes],
    known_host: bytes | None = None,
) -> errors.RequestRefused | None:
    """The first rule that the request breaks, or None.

    ``index`` is ``dict(headers)``; ``known_host`` is a Host value found valid before.
    """
    if version != "1.1" and version != "1.0":
        return errors.UnsupportedVersion("the server speaks HTTP/1.1 and HTTP/1.0")
    if method == b"CONNECT":
        return errors.UnsupportedMethod("the server opens no tunnels")
    if (target[:1] != b"/" and not _ABSOLUTE.match(target)) or b"#" in target:
        return errors.MalformedRequest("the request target is neither a path nor an absolute URL")
    if index.get(b"host") != known_host or known_host is None or len(index) != len(headers):
        fault = _host_fault(version, headers, index)
        if fault is not None:
            return fault
    if b"transfer-encoding" in index or b"content-length" in index:
        fault = _framing_fault(method, version, index)
        if fault is not None:
            return fault
    return _expect_fault(index[b"expect"]) if b"expect" in index else None


def _host_fault(
    version: str, headers: list[tuple[bytes, bytes]], index: dict[bytes, bytes]
) -> errors.MalformedRequest | None:
    host = index.get(b"host")
    if host is None:
        return errors.MalformedRequest("the request has no Host header") if version == "1.1" else None
    if len(index) != len(headers) and sum(name == b"host" for name, _ in headers) > 1:
        return errors.MalformedRequest("the request has more than one Host header")
    return None if _HOST.match(host) else errors.MalformedRequest("the request's Host header is malformed")


def _framing_fault(method: bytes, version: str, index: dict[bytes, bytes]) -> errors.MalformedRequest | None:
    coding = index.get(b"transfer-encoding")
    if coding is not None and (coding.lower() != b"chunked" or version != "1.1" or b"content-length" in index):
        return errors.MalformedRequest("the request's transfer coding is not allowed")
    length = index.get(b"content-length")
    if length is not None and not length.isdigit():
        return errors.MalformedRequest("the request's Content-Length is not a number")
    if method in BODILESS and (coding is not None or (length is not None and int(length) > 0)):
        return errors.MalformedRequest("a GET or HEAD request has no body")
    return None


def _expect_fault(expect: bytes) -> errors.ExpectationFailed | None:
    if expect.lower() == b"100-continue":
        return None
    return errors.ExpectationFailed("the only expectation that is met is 100-continue")


def blank_line_end(tail: bytes, data: bytes) -> int:
    """Where in ``data`` the first blank line ends that may have begun in ``tail``, the last three bytes before it; 0
    if nowhere.

    A head, a chunked body and a trailer section all end with one, so cutting reads there keeps two messages out of
    one feed.
    """
    if tail:
        found = (tail + data).find(b"\r\n\r\n")
        return found + 4 - len(tail) if found >= 0 else 0
    return data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0
