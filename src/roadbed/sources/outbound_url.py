"""Addresses of requests that leave: parsed once and strictly, so that no two readers can understand one differently.

Pure. Only forms that mean the same to everybody pass: http or https, a name or a plain IP address, a port of the list,
a target in percent-encoding. What browsers mend (backslashes, tabs, ``0x7f.1``, full-width letters, user names) is
refused. The invariant: the text of a URL that passed is the text that is sent.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from typing import NoReturn

from roadbed.sources.errors import EgressRefused
from roadbed.wire.address import Origin, Url

URL_CHARACTERS_MAX = 8_192
HOST_CHARACTERS_MAX = 253
USUAL_PORTS = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<target>[/?][\x21\x24-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e%]*)?"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")


def parse_outbound(text: str, *, ports: Collection[int] = ()) -> Url:
    """The URL of a request. ``ports`` are allowed beside 80 and 443. Raises `EgressRefused`, which quotes nothing."""
    if len(text) > URL_CHARACTERS_MAX:
        _refuse("it is too long")
    match = _URL.fullmatch(text)
    if match is None:
        _refuse("it is not a plain http or https address")
    scheme = match["scheme"]
    port = int(match["port"] or USUAL_PORTS[scheme])
    if port not in USUAL_PORTS.values() and port not in ports:
        _refuse("its port is not allowed")
    target = match["target"] or "/"
    if _ESCAPE.search(target):
        _refuse("its percent-encoding is broken")
    return Url(Origin(scheme, _host(match["host"]), port), (target if target[0] == "/" else f"/{target}").encode())


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            _refuse("its host is no IP address")
    name = text.lower()
    labels = name.split(".")
    if len(name) > HOST_CHARACTERS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        _refuse("its host is not a plain name")
    if _NUMERIC.fullmatch(labels[-1]):  # others read 127.1, 2130706433 and 0x7f.1 as addresses
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            _refuse("its host is a number in an unusual form")
    return name


def _refuse(reason: str) -> NoReturn:
    raise EgressRefused(f"an address may not be asked: {reason}")
