"""Readers of secrets: from where a trigger ended to the exact value, by issuers' prefixes, structure or a telling word.

Called by `guard.detect` alone; what is a secret is said by `guard.secret_rules` and its table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from roadbed.guard.finding import SECRET, Finding
from roadbed.guard.secret_rules import (
    BEARER_VALUE,
    CONTEXT_VALUE,
    PEM_BLOCK,
    PEM_BODY_CHARACTERS_MIN,
    PEM_CHARACTERS_MAX,
    PREFIX_RULES,
    PREFIXES,
    USER_OPTION_VALUE,
    is_likely_secret,
    is_placeholder,
    is_sample,
    secret_key_before,
    service_value,
)

_RULES_OF_PREFIX = tuple(
    (len(prefix), tuple(rule for rule in PREFIX_RULES if rule[0].startswith(prefix) or prefix.startswith(rule[0])))
    for prefix in PREFIXES
)


def prefixed_secret(view: str, end: int, index: int) -> Iterable[Finding]:
    """A value that begins with the issuer's prefix ``index``, which ends at ``end``; of several, the longest prefix."""
    length, rules = _RULES_OF_PREFIX[index]
    start = end - length
    if start and view[start - 1].isalnum():
        return ()
    for prefix, name, pattern in rules:
        match = pattern.match(view, start) if view.startswith(prefix, start) else None
        if match is not None and not is_sample(match[0], prefix):
            return (Finding(SECRET, start, match.end(), name, 0.99, True),)
    return ()


def assigned_secret(view: str, end: int) -> Iterator[Finding]:
    """``key = value`` where the key says secret; ``end`` is after the sign between them."""
    value = CONTEXT_VALUE.match(view, end)
    key = secret_key_before(view, end) if value is not None else None
    if value is None or key is None:
        return
    start, stop = value.span("value")
    if view.startswith("..", stop - 2):  # said to be cut short
        return
    while stop > start and view[stop - 1] in ".:\\":
        stop -= 1
    if is_likely_secret(key, view[start:stop]):
        yield Finding(SECRET, start, stop, "assigned_secret", 0.7, True)


def private_key(view: str, end: int) -> Iterator[Finding]:
    """From BEGIN to its END; where there is none, everything within the bound: a cut key is still a key."""
    start = view.rfind("-----BEGIN ", 0, end)
    match = PEM_BLOCK.match(view, start)
    if match is None:
        return
    closing = f"-----END {match['kind']}-----"
    stop = view.find(closing, match.end(), start + PEM_CHARACTERS_MAX)
    if 0 <= stop < match.end() + PEM_BODY_CHARACTERS_MIN:  # no key is as short as that: a form, or a test of one
        return
    stop = stop + len(closing) if stop >= 0 else min(len(view), start + PEM_CHARACTERS_MAX)
    yield Finding(SECRET, start, stop, "private_key", 0.99, True)


def bearer(view: str, end: int) -> Iterator[Finding]:
    """The value after ``Bearer`` or ``Basic``."""
    match = BEARER_VALUE.search(view, max(0, end - 26))
    if match is None or match.start() >= end:
        return
    value = match["value"]
    if not is_placeholder(value) and any(c.isdigit() for c in value) and any(c.isalpha() for c in value):
        yield Finding(SECRET, *match.span("value"), "bearer_token", 0.9, True)


def user_option(view: str, end: int) -> Iterator[Finding]:
    """``curl -u name:password``; ``end`` is after the colon."""
    match = USER_OPTION_VALUE.match(view, end + view.startswith(("'", '"'), end))
    if match is not None and not is_placeholder(match[0]) and match[0].lower() not in ("password", "pass", "pwd"):
        yield Finding(SECRET, *match.span(), "user_option", 0.7, True)


_STRUCTURED = (
    (
        "azure_client_secret",
        re.compile(r"(?<![A-Za-z0-9_~.-])[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}(?![A-Za-z0-9_~-])"),
    ),
    ("facebook_app_token", re.compile(r"(?<![0-9])[0-9]{15,16}\|[A-Za-z0-9_-]{27}(?![A-Za-z0-9_-])")),
    ("telegram_token", re.compile(r"(?<![0-9A-Za-z])[0-9]{8,10}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])")),
    (
        "discord_token",
        re.compile(
            r"(?<![A-Za-z0-9_-])[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}(?![A-Za-z0-9_-])"
        ),
    ),
    ("terraform_token", re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}")),
)


def structured_secret(view: str, end: int) -> Iterator[Finding]:
    """A value of a fixed inner structure around ``end``."""
    for name, pattern in _STRUCTURED:
        match = pattern.search(view, max(0, end - 36), end + 80)
        if match is not None and match.start() < end <= match.end():
            yield Finding(SECRET, *match.span(), name, 0.95, True)
            return


def service_secret(view: str, end: int) -> Iterator[Finding]:
    """A key assigned to something that a service's name is a part of; the word ends at ``end``."""
    found = service_value(view, end)
    if found is not None:
        yield Finding(SECRET, found[1], found[2], found[0], 0.85, True)
