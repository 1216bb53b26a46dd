"""Readers of secrets: from where a trigger ended to the exact value, by issuers' prefixes, structure or a telling word.

Called by `guard.detect` alone; what is a secret is said by `guard.secret_rules` and its table.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator

from roadbed.guard.finding import SECRET, Finding
from roadbed.guard.secret_forms import is_coded_user, without_ending
from roadbed.guard.secret_rules import (
    BEARER_VALUE,
    CODED_ID,
    CONTEXT_VALUE,
    PEM_BLOCK,
    PEM_BODY_CHARACTERS_MIN,
    PEM_CHARACTERS_MAX,
    PREFIX_RULES,
    PREFIXES,
    USER_OPTION_VALUE,
    VALUE_CHARACTERS_MAX,
    service_value,
)
from roadbed.guard.secret_values import (
    NO_PASSWORDS,
    character_classes,
    is_key,
    is_password,
    is_placeholder,
    is_sample,
    is_words,
)
from roadbed.guard.secret_words import is_of_passwords, secret_key_before

_RULES_OF_PREFIX = tuple(
    (len(prefix), tuple(rule for rule in PREFIX_RULES if rule[0].startswith(prefix) or prefix.startswith(rule[0])))
    for prefix in PREFIXES
)


_SHORT_PREFIX_CHARACTERS = 3
_RUN_BEFORE = re.compile(r"[A-Za-z0-9+/]{12,64}\Z")


def _is_in_base64(view: str, start: int) -> bool:
    """Whether what stands before ``start`` is a run of base64, and no path of an address."""
    run = _RUN_BEFORE.search(view, max(0, start - 64), start)
    return run is not None and character_classes(run[0]) >= 4 and not is_words(run[0])


def prefixed_secret(index: int, view: str, end: int) -> Iterable[Finding]:
    """A value that begins with the issuer's prefix ``index``, which ends at ``end``; of several, the longest prefix."""
    length, rules = _RULES_OF_PREFIX[index]
    start = end - length
    before = view[start - 1] if start else " "
    if before.isalnum() or (before in "+/" and _is_in_base64(view, start)):
        return ()
    if length <= _SHORT_PREFIX_CHARACTERS and before in "_-.":  # the end of a longer name
        return ()
    for prefix, name, pattern in rules:
        match = pattern.match(view, start) if view.startswith(prefix, start) else None
        if match is not None and not is_sample(match[0], prefix):
            return (Finding(SECRET, start, match.end(), name, 0.99, True),)
    return ()


_QUOTED = {sign: re.compile(rf"[^{sign}\s]{{6,{VALUE_CHARACTERS_MAX}}}+(?={sign})") for sign in "\"'`"}
_SCHEME = re.compile(r"[=>]?[ \t]{0,4}[\"'`]?(?P<scheme>[A-Za-z][A-Za-z0-9_-]{1,24}) {1,2}(?=[^\s\"'])")
_CLEAR_TEXT = re.compile(r"clear[_-]?text[_-]?passw", re.IGNORECASE)  # of NuGet's settings: whatever it is
_CALL = ("(", "[")
_OWN_NAME_CHARACTERS = 64
_NAME_CHARACTERS = string.ascii_lowercase + string.digits + "_"
_OWNERS = re.compile(r"_?|(?:[a-z0-9_]+\.)+")


def assigned_secret(view: str, end: int) -> tuple[Finding, ...]:
    """``key = value`` where the key says secret; ``end`` is after the sign between them."""
    key = secret_key_before(view, end)
    value = CONTEXT_VALUE.match(view, end) if key is not None else None
    if key == "authorization" and (scheme := _SCHEME.match(view, end)) is not None:
        value = CONTEXT_VALUE.match(view, scheme.end())
        if value is not None and scheme["scheme"].lower() == "basic" and is_coded_user(value["value"]):
            return (Finding(SECRET, *value.span("value"), "basic_user", 0.9, True),)
    if value is None or key is None:
        return ()
    start, stop = value.span("value")
    whole = _QUOTED[value["quote"]].match(view, start) if value["quote"] else None
    if whole is not None:
        stop = whole.end()
    elif view.startswith(_CALL, stop) or view.startswith("->", stop - 1):  # what code makes, not a value
        return ()
    is_of_address = view[end - 1 : end] + view[start] in (">@", "::")  # ``<user>:<password>@host``, ``password::label``
    if is_of_address or view.startswith("..", stop - 2):  # or said to be cut short
        return ()
    stop = without_ending(view, start, stop)
    text = view[start:stop]
    if is_own_name(view[max(0, end - _OWN_NAME_CHARACTERS) : end].lower() + text.lower()):
        return ()
    is_secret = is_password(text) if is_of_passwords(key) else is_key(text)
    if is_secret or (_CLEAR_TEXT.search(view, max(0, end - 40), end) and not is_placeholder(text)):
        return (Finding(SECRET, start, stop, "assigned_secret", 0.7, True),)
    return ()


def is_own_name(written: str) -> bool:
    """Whether what follows the last sign is the name before it, of something or alone: ``password2=it.password2``."""
    sign = max(written.rfind("="), written.rfind(":"))
    before = written[:sign].rstrip(" ").rstrip("\"'])")
    name = before[len(before.rstrip(_NAME_CHARACTERS)) :]
    stop = len(written) - len(name)
    return name != "" and written.endswith(name, sign + 1) and bool(_OWNERS.fullmatch(written, sign + 1, stop))


_WORD = re.compile(r"[^\s\"'`<>,;&|(){}\[\]]*+")  # of the characters of a value
_VALUE_BEGINS_WITHIN = 64  # characters after the sign


def assigned_secrets(view: str, ends: Iterable[int]) -> Iterator[Finding]:
    """`assigned_secret` at each of the ascending ``ends``, but for those inside of a value that was found.

    In a word that is too long for a value, only its end is looked at: else each sign in it would read thousands of
    characters.
    """
    skipped = 0
    for end in ends:
        if end < skipped:
            continue
        found = assigned_secret(view, end)
        yield from found
        if not found:
            skipped = _WORD.match(view, end).end() - VALUE_CHARACTERS_MAX - _VALUE_BEGINS_WITHIN  # type: ignore[union-attr]
        elif view[found[0].start - 1] not in "\"'`":  # in quotes another may begin that ends later
            skipped = found[0].end


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


_BEARER_WORD = re.compile("(?:bearer|basic) ", re.IGNORECASE)


def bearer(view: str, end: int) -> Iterator[Finding]:
    """The value after ``Bearer`` or ``Basic``."""
    words = _BEARER_WORD.finditer(view, max(0, end - 26), end)
    match = next(filter(None, (BEARER_VALUE.match(view, word.start()) for word in words)), None)
    if match is None:
        return
    value = match["value"]
    is_mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    if is_mixed and not is_placeholder(value) and not is_words(value):
        yield Finding(SECRET, *match.span("value"), "bearer_token", 0.9, True)


_OPTION_BEFORE = re.compile(
    r"(?:^|\s)(?:-u|-[A-Za-z]{1,6}u(?=[ =])|--(?:proxy-)?user(?=[ =]))[ =]{0,3}"
    r"[\"']?(?P<user>[^\s\"']{0,60})[\"']?:[\"']?\Z"
)
_NAMES_OF_USERS = frozenset({"user", "username", "login", "name", "email"})
_LISTENED = re.compile(r"[0-9]{1,5},[a-z-]{2,}")  # a port, and what socat does with it
_SENDS = re.compile(r"curl|wget|https?", re.IGNORECASE)


def user_option(view: str, end: int) -> Iterator[Finding]:
    """``curl -u name:password``; ``end`` is after the colon. No ids of users, addresses or drives."""
    option = _OPTION_BEFORE.search(view, max(0, end - 80), end)
    match = USER_OPTION_VALUE.match(view, end + view.startswith(("'", '"'), end)) if option is not None else None
    if option is not None and match is None and is_key(option["user"]):  # a key in the user's place
        yield Finding(SECRET, *option.span("user"), "user_option", 0.7, True)
    if option is None or match is None or match[0].startswith(("/", "\\")):
        return
    value, user = match[0], option["user"].lower()
    if is_placeholder(value) or value.lower() in NO_PASSWORDS or (user in _NAMES_OF_USERS and is_words(value)):
        return
    if _LISTENED.match(value):
        return
    is_of_ids = value.isdigit() and user.isdigit()
    if (is_of_ids or value == user) and not _SENDS.search(view, max(0, option.start() - 200), option.start()):
        return
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
    # Of Jira and Confluence: an id of twelve digits, a colon and twenty random bytes.
    (
        "atlassian_pat",
        re.compile(rf"(?<![A-Za-z0-9+/]){CODED_ID}[A-Za-z0-9+/]{{26}}(?![A-Za-z0-9+/=])"),
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
