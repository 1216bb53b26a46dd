"""Readers of addresses and accounts: from where a trigger ended to an exact e-mail address, IBAN or IP address.

Called by `guard.detect` alone. Each looks at a bounded neighbourhood of the place and yields at most one finding.
"""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Iterable, Iterator
from typing import Final

from roadbed.guard import validators
from roadbed.guard.finding import EMAIL, IBAN, IP, NATIONAL_ID, PRIVATE_IP, SECRET, Finding
from roadbed.guard.other_checks import is_mrz_passport
from roadbed.guard.secret_rules import URL_USER
from roadbed.guard.secret_values import NO_PASSWORDS, is_placeholder

_LOCAL_CHARACTERS = string.ascii_letters + string.digits + "._%+'-"
_DOMAIN = re.compile(
    r"(?=.{4,190})(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,40})"
    r"(?![A-Za-z0-9_]|\.[A-Za-z0-9])"
)
_FILE_SUFFIXES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "py", "html", "md"})
_SEPARATORS = b" .-"
_IBAN_OF_LENGTH = {
    length: re.compile(rf"[A-Za-z0-9](?:[ -]?[A-Za-z0-9]){{{length - 1}}}")
    for length in set(validators.IBAN_LENGTHS.values())
}
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_OCTETS = frozenset(map(str, range(256)))
# Of networks that begin with these, some are not global; `ipaddress` takes ten times as long to say so of the others.
_MIXED_OCTETS = frozenset(map(str, (0, 10, 100, 127, 169, 172, 192, 198, 203, *range(224, 256))))
_MRZ = re.compile(r"[A-Z0-9<]{9}[0-9][A-Z<]{3}[0-9]{7}[MFX<][0-9]{7}[A-Z0-9<]{14}[0-9<][0-9]")
_MRZ_BEFORE = 21  # characters of the line up to the sex, inclusive
SEXES: Final = frozenset("MFX<")
_VERSION_BEFORE = re.compile(r"\b(?:v|version|ver|release|revision|sections?|build)[ .:=]{0,2}\Z", re.IGNORECASE)
_VERSION_WORDS = ("v", "version", "ver", "release", "revision", "section", "sections", "build")
_IPV6 = re.compile(r"[0-9A-Fa-f:]{3,39}")
_WHOLE_V6_CHARACTERS = 30  # eight groups, written out: longer than a dump of eight bytes
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_PRIVATE_V6 = tuple(ipaddress.IPv6Network(text) for text in ("fc00::/7", "fe80::/10", "2001:db8::/32"))


def email(view: str, end: int) -> Iterable[Finding]:
    """Around ``@`` at ``end - 2``: a mailbox, or the password in an address such as ``amqp://user:password@host``."""
    at = end - 2
    has_scheme = view.rfind("://", max(0, at - 320), at) >= 0
    url = URL_USER.search(view, max(0, at - 320), at) if has_scheme else None
    if url is not None:
        if not is_placeholder(url["value"]) and url["value"].lower() not in NO_PASSWORDS:
            return (Finding(SECRET, *url.span("value"), "url_password", 0.9, True),)
        return ()
    before = view[max(0, at - 64) : at]
    local = before[len(before.rstrip(_LOCAL_CHARACTERS)) :]
    domain = _DOMAIN.match(view, at + 1) if local else None
    if domain is None:
        return ()
    name = local.lstrip(".%+'-")
    if not name or name.endswith(".") or domain[0].rpartition(".")[2].lower() in _FILE_SUFFIXES:
        return ()
    if name == "git" and view.startswith(":", domain.end()):
        return ()
    return (Finding(EMAIL, at - len(name), domain.end(), "email", 0.95, False),)


def iban(view: str, end: int) -> Iterable[Finding]:
    """An IBAN whose first four to eight characters end at ``end``."""
    start = end - (9 if view[end - 5] in " -" else 8)
    length = validators.IBAN_LENGTHS.get(view[start : start + 2].upper())
    match = _IBAN_OF_LENGTH[length].match(view, start) if length is not None else None
    if match is None:
        return ()
    stop = match.end()
    if stop < len(view) and (view[stop].isalnum() or view[stop] == "_"):
        return ()
    if not validators.is_iban(match[0].encode("ascii").translate(None, _SEPARATORS).decode().upper()):
        return ()
    return (Finding(IBAN, start, stop, "iban", 0.98, False),)


def ip_v4(view: str, end: int) -> Iterable[Finding]:
    """An IPv4 address around ``end``; a version number is none."""
    match = _IPV4.search(view, max(0, end - 13))
    while match is not None and match.end() < end:
        match = _IPV4.search(view, match.start() + 1)
    if match is None or match.start() >= end:
        return ()
    start, stop = match.span()
    if start and (view[start - 1].isalnum() or view[start - 1] in "._-"):
        return ()
    if stop < len(view) and (view[stop].isalnum() or view[stop] == "_"):
        return ()
    if view[stop : stop + 1] in (".", "-") and view[stop + 1 : stop + 2].isdigit():
        return ()
    parts = match[0].split(".")
    if not _OCTETS.issuperset(parts):
        return ()
    before = view[max(0, start - 12) : start].rstrip(" .:=")
    if before.lower().endswith(_VERSION_WORDS) and _VERSION_BEFORE.search(view, max(0, start - 12), start):
        return ()
    is_global = parts[0] not in _MIXED_OCTETS or ipaddress.IPv4Address(match[0]).is_global
    return (Finding(IP if is_global else PRIVATE_IP, start, stop, "ip_v4", 0.9 if is_global else 0.6, False),)


def ip_v6(view: str, end: int) -> Iterator[Finding]:
    """An IPv6 address around ``end``."""
    start = end
    while start > 0 and end - start < 40 and view[start - 1] in "0123456789abcdefABCDEF:":
        start -= 1
    match = _IPV6.match(view, start)
    if match is None or (start and (view[start - 1].isalnum() or view[start - 1] in "_.")):
        return
    stop = match.end()
    if stop < len(view) and (view[stop].isalnum() or view[stop] == "_"):
        return
    if view[stop - 1] == ":" and not view.startswith("::", stop - 2):
        stop -= 1
    try:
        address = ipaddress.IPv6Address(view[start:stop])
    except ValueError:
        return
    if any(address in network for network in _PRIVATE_V6):
        yield Finding(PRIVATE_IP, start, stop, "ip_v6", 0.6, False)
    elif address in _GLOBAL_UNICAST or (view.count(":", start, stop) == 7 and stop - start > _WHOLE_V6_CHARACTERS):
        yield Finding(IP, start, stop, "ip_v6", 0.95, False)


def passport_line(view: str, end: int) -> Iterator[Finding]:
    """The second line of a passport's machine-readable zone, whose letter for the sex ends at ``end``."""
    start = end - _MRZ_BEFORE
    match = _MRZ.match(view, start) if start >= 0 else None
    if match is not None and is_mrz_passport(match[0]):
        yield Finding(NATIONAL_ID, start, match.end(), "mrz", 0.98, False)
