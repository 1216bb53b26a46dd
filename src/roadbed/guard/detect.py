"""`Detector`: finds personal data and secrets in a text. Pure, thread-safe, and sure of its offsets.

One pass of an engine tells where to look (`guard.patterns`); here each place is read exactly, validated and turned
into findings with offsets into the text as given, whatever was folded on the way. It decides nothing about what is
done with a finding: `guard.gate` does. The invariant: the findings do not depend on the engine.
"""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from roadbed.guard import patterns, validators
from roadbed.guard.digit_runs import has_word, is_glued, numbers_in, run_at, word_pattern
from roadbed.guard.engine import Engine, make_engine
from roadbed.guard.finding import EMAIL, IBAN, IP, NATIONAL_ID, PRIVATE_IP, SECRET, Finding, merge_overlaps
from roadbed.guard.fold import fold
from roadbed.guard.phones import phones_in, warm_up
from roadbed.guard.secret_rules import (
    BEARER_VALUE,
    CONTEXT_VALUE,
    PEM_BLOCK,
    PEM_CHARACTERS_MAX,
    PREFIX_RULES,
    PREFIXES,
    URL_USER,
    USER_OPTION_VALUE,
    is_likely_secret,
    is_placeholder,
    is_sample,
    secret_key_before,
)

DEFAULT_PHONE_REGIONS: Final = ("US", "GB", "DE", "NO")
_PREFIXES = frozenset(PREFIXES)
_PREFIX_LENGTHS = tuple(sorted({len(prefix) for prefix in PREFIXES}))
_HEAD = _PREFIX_LENGTHS[0]
_RULES_OF_HEAD = {
    head: tuple(rule for rule in PREFIX_RULES if rule[0].startswith(head))
    for head in sorted({prefix[:_HEAD] for prefix in PREFIXES})
}
_LOCAL_CHARACTERS = string.ascii_letters + string.digits + "._%+'-"
_DOMAIN = re.compile(
    r"(?=.{4,190})(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?:[A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,40})"
    r"(?![A-Za-z0-9_-]|\.[A-Za-z0-9])"
)
_FILE_SUFFIXES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "py", "html", "md"})
_SEPARATORS = str.maketrans("", "", " .-")
_IBAN = re.compile(r"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,29}")
_IBAN_PART = re.compile(r"[A-Za-z0-9]")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_VERSION_BEFORE = re.compile(r"\b(?:v|version|ver|release|revision|section|build)[ .:=]{0,2}\Z", re.IGNORECASE)
_IPV6 = re.compile(r"[0-9A-Fa-f:]{3,39}")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_PRIVATE_V6 = (ipaddress.IPv6Network("fc00::/7"), ipaddress.IPv6Network("fe80::/10"))
_LETTER_IDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool], re.Pattern[str] | None], ...] = (
    (
        "it_codice_fiscale",
        re.compile(r"[A-Z]{6} ?[0-9L-NP-V]{2}[A-Z][0-9L-NP-V]{2} ?[A-Z][0-9L-NP-V]{3}[A-Z]"),
        validators.is_it_codice_fiscale,
        None,
    ),
    ("uk_nino", re.compile(r"[A-Z]{2}[ -]?(?:[0-9]{2}[ -]?){3}[A-D]"), validators.is_uk_nino, None),
    (
        "fr_nir",
        re.compile(r"[1-478] ?[0-9]{2} ?[0-9]{2} ?2[AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"),
        validators.is_fr_nir,
        None,
    ),
    (
        "es_nie",
        re.compile(r"[XYZ][ -]?[0-9]\.?[0-9]{3}\.?[0-9]{3}[ -]?[A-Z]"),
        validators.is_es_nie,
        word_pattern("nie", "extranjero", "extranjeros"),
    ),
    (
        "es_dni",
        re.compile(r"[0-9]{2}\.?[0-9]{3}\.?[0-9]{3}[ -]?[A-Z]"),
        validators.is_es_dni,
        word_pattern("dni", "nif", "documento", "identidad"),
    ),
)


class Detector:
    """Finds personal data and secrets. One is enough for a process; any thread may use it.

    ``cache_folder`` keeps the compiled patterns between starts; ``engine`` is given by tests.
    """

    def __init__(
        self,
        cache_folder: Path | None = None,
        *,
        phone_regions: Sequence[str] = DEFAULT_PHONE_REGIONS,
        engine: Engine | None = None,
    ) -> None:
        self._engine = engine if engine is not None else make_engine(cache_folder)
        self._phone_regions = tuple(phone_regions)

    @property
    def engine_name(self) -> str:
        """``hyperscan`` or ``re``, for `roadbed doctor`."""
        return self._engine.name

    def with_phone_regions(self, phone_regions: Sequence[str]) -> Detector:
        """The same detector for other countries; shares the compiled patterns."""
        return Detector(phone_regions=phone_regions, engine=self._engine)

    def warm_up(self) -> None:
        """Load what is loaded on first need, so that no request waits for it."""
        warm_up()
        self.find("warm@example.com")

    def find(self, text: str) -> list[Finding]:
        """Disjoint findings in order; overlapping ones are merged."""
        found = self.candidates(text)
        return merge_overlaps(found) if len(found) > 1 else found

    def candidates(self, text: str) -> list[Finding]:
        """Every finding before merging, in no order; offsets into ``text``."""
        if text.isascii():
            hits = self._engine.hits(text)
            return list(self._read(text, hits)) if hits else []
        view = fold(text)
        hits = self._engine.hits(view.text)
        if not hits:
            return []
        found = list(self._read(view.text, hits))
        if view.text is text:
            return found
        return [
            finding._replace(start=start, end=end)
            for finding in found
            for start, end in (view.source_span(finding.start, finding.end),)
        ]

    def _read(self, view: str, hits: list[tuple[int, int]]) -> Iterator[Finding]:
        """Read the places that the triggers point at; each place once."""
        runs_done = -1
        seen: set[tuple[int, int]] = set()
        for hit in hits:
            number, end = hit
            if number == patterns.DIGITS:
                if end <= runs_done:
                    continue
                run = run_at(view, end, max(runs_done, 0))
                if run is not None:
                    runs_done = run.end
                    yield from numbers_in(view, run)
                    yield from phones_in(view, run, self._phone_regions)
            elif hit not in seen:
                seen.add(hit)
                yield from _READERS[number](view, end)


def _email(view: str, end: int) -> Iterator[Finding]:
    """Around ``@`` at ``end - 2``: a mailbox, or the password in an address such as ``amqp://user:password@host``."""
    at = end - 2
    has_scheme = view.rfind("://", max(0, at - 320), at) >= 0
    url = URL_USER.search(view, max(0, at - 320), at) if has_scheme else None
    if url is not None:
        if not is_placeholder(url["value"]) and url["value"].lower() not in ("password", "pass", "pwd"):
            yield Finding(SECRET, *url.span("value"), "url_password", 0.9, True)
        return
    before = view[max(0, at - 64) : at]
    local = before[len(before.rstrip(_LOCAL_CHARACTERS)) :]
    domain = _DOMAIN.match(view, at + 1) if local else None
    if domain is None:
        return
    name = local.lstrip(".%+'-")
    if not name or name.endswith(".") or domain[0].rpartition(".")[2].lower() in _FILE_SUFFIXES:
        return
    if name == "git" and view.startswith(":", domain.end()):
        return
    yield Finding(EMAIL, at - len(name), domain.end(), "email", 0.95, False)


def _iban(view: str, end: int) -> Iterator[Finding]:
    start = end - (9 if view[end - 5] in " -" else 8)
    match = _IBAN.match(view, start)
    length = validators.IBAN_LENGTHS.get(view[start : start + 2].upper())
    if match is None or length is None:
        return
    places = [part.end() for part in _IBAN_PART.finditer(view, start, match.end())]
    if len(places) < length:
        return
    stop = places[length - 1]
    if stop < len(view) and (view[stop].isalnum() or view[stop] == "_"):
        return
    if validators.is_iban(view[start:stop].translate(_SEPARATORS).upper()):
        yield Finding(IBAN, start, stop, "iban", 0.98, False)


def _letter_id(view: str, end: int) -> Iterator[Finding]:
    """An identifier of letters and digits that ends at ``end``."""
    if end < len(view) and (view[end].isalnum() or view[end] == "_"):
        return
    for start in range(max(0, end - 22), end - 8):
        if start and (view[start - 1].isalnum() or view[start - 1] == "_"):
            continue
        written = view[start:end].upper()
        for name, pattern, check, words in _LETTER_IDS:
            if not pattern.fullmatch(written) or is_glued(view, start, end):
                continue
            bare = written.translate(_SEPARATORS)
            is_clear = words is None or view[start:end].isupper() or has_word(view, start, words)
            if is_clear and check(bare):
                yield Finding(NATIONAL_ID, start, end, name, 0.9, False)
                return


def _ip_v4(view: str, end: int) -> Iterator[Finding]:
    match = _IPV4.search(view, max(0, end - 13))
    while match is not None and match.end() < end:
        match = _IPV4.search(view, match.start() + 1)
    if match is None or match.start() >= end:
        return
    start, stop = match.span()
    if start and (view[start - 1].isalnum() or view[start - 1] in "._-"):
        return
    if stop < len(view) and (view[stop].isalnum() or view[stop] == "_"):
        return
    if view[stop : stop + 1] in (".", "-") and view[stop + 1 : stop + 2].isdigit():
        return
    parts = match[0].split(".")
    if any(int(part) > 255 or (len(part) > 1 and part[0] == "0") for part in parts):
        return
    if _VERSION_BEFORE.search(view, max(0, start - 12), start):
        return
    is_global = ipaddress.IPv4Address(match[0]).is_global
    yield Finding(IP if is_global else PRIVATE_IP, start, stop, "ip_v4", 0.9 if is_global else 0.6, False)


def _ip_v6(view: str, end: int) -> Iterator[Finding]:
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
    if address in _GLOBAL_UNICAST:
        yield Finding(IP, start, stop, "ip_v6", 0.95, False)
    elif any(address in network for network in _PRIVATE_V6):
        yield Finding(PRIVATE_IP, start, stop, "ip_v6", 0.6, False)


def _prefixed_secret(view: str, end: int) -> Iterator[Finding]:
    """A value that begins with an issuer's prefix, which ends at ``end``; of several that fit, the longest prefix."""
    for length in _PREFIX_LENGTHS:
        start = end - length
        if start < 0 or view[start:end] not in _PREFIXES or (start and view[start - 1].isalnum()):
            continue
        for prefix, name, pattern in _RULES_OF_HEAD[view[start : start + _HEAD]]:
            match = pattern.match(view, start) if view.startswith(prefix, start) else None
            if match is not None and not is_sample(match[0]):
                yield Finding(SECRET, start, match.end(), name, 0.99, True)
                break


def _assigned_secret(view: str, end: int) -> Iterator[Finding]:
    """``key = value`` where the key says secret; ``end`` is after the sign between them."""
    value = CONTEXT_VALUE.match(view, end)
    key = secret_key_before(view, end) if value is not None else None
    if value is None or key is None:
        return
    start, stop = value.span("value")
    while stop > start and view[stop - 1] in ".:\\":
        stop -= 1
    if is_likely_secret(key, view[start:stop]):
        yield Finding(SECRET, start, stop, "assigned_secret", 0.7, True)


def _private_key(view: str, end: int) -> Iterator[Finding]:
    """From BEGIN to its END; where there is none, everything within the bound: a cut key is still a key."""
    start = view.rfind("-----BEGIN ", 0, end)
    match = PEM_BLOCK.match(view, start)
    if match is None:
        return
    closing = f"-----END {match['kind']}-----"
    stop = view.find(closing, match.end(), start + PEM_CHARACTERS_MAX)
    stop = stop + len(closing) if stop >= 0 else min(len(view), start + PEM_CHARACTERS_MAX)
    yield Finding(SECRET, start, stop, "private_key", 0.99, True)


def _bearer(view: str, end: int) -> Iterator[Finding]:
    match = BEARER_VALUE.search(view, max(0, end - 26))
    if match is None or match.start() >= end:
        return
    value = match["value"]
    if not is_placeholder(value) and any(c.isdigit() for c in value) and any(c.isalpha() for c in value):
        yield Finding(SECRET, *match.span("value"), "bearer_token", 0.9, True)


def _user_option(view: str, end: int) -> Iterator[Finding]:
    """``curl -u name:password``; ``end`` is after the colon."""
    match = USER_OPTION_VALUE.match(view, end)
    if match is not None and not is_placeholder(match[0]) and match[0].lower() not in ("password", "pass", "pwd"):
        yield Finding(SECRET, *match.span(), "user_option", 0.7, True)


_READERS: Final = {
    patterns.AT: _email,
    patterns.IBAN_HEAD: _iban,
    patterns.LETTER_ID: _letter_id,
    patterns.DOTTED: _ip_v4,
    patterns.COLONS: _ip_v6,
    patterns.PREFIX: _prefixed_secret,
    patterns.CONTEXT: _assigned_secret,
    patterns.PEM: _private_key,
    patterns.BEARER: _bearer,
    patterns.USER_OPTION: _user_option,
}
