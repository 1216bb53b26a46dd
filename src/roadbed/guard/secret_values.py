"""What a value itself says of whether it is a secret: how random it is, and what visibly stands for something else.

Pure functions of a value and the characters at its two ends, called by `guard.secret_rules` and its readers. They know
templates (``${TOKEN}``), names of secrets kept elsewhere, code, files, digests, sequences and words, so that none of
these is taken for a secret because of what stands before it.
"""

from __future__ import annotations

import re
from math import log2
from operator import add
from typing import Final

from roadbed.guard.fold import fold

DISTINCT_CHARACTERS_MIN: Final = 5
VALUE_CHARACTERS_MIN: Final = 10
PASSWORD_CHARACTERS_MIN: Final = 6
WORDS_SHARE: Final = 0.5
"""A value in which so many of the neighbouring letters are those of words is words: of random letters a fifth are."""

_SAMPLE_WORDS_SHARE = 0.6  # of a value with an issuer's prefix
SEQUENCE_SHARE: Final = 0.85
_WORDS_CHARACTERS_MIN = 10
_HEAD_CHARACTERS = 10
_NAME_PAIRS_MIN = 8
_ENTROPY_MIN = 0.72  # of the most that the value's length allows

_PLACEHOLDERS = (
    "xxxx", "***", "...", "redacted", "placeholder", "example", "changeme", "change_me", "change-me", "your", "dummy",
    "sample", "testkey", "test_key", "1234567", "abcdef", "undefined", "null", "none", "true", "false", "process.env",
    "os.environ", "getenv", "${", "$(", "%(", "#{", "{{", "env:", "file:", "vault:", "secret:", "foobar", "replace-me",
    "replace_me", "insert-", "insert_", "%s", "{}",
)  # fmt: skip
NO_PASSWORDS: Final = frozenset(
    {
        "password", "passwd", "pass", "pwd", "pw", "secret", "token", "key", "apikey", "api_key", "credentials",
        "mypassword", "userpassword",
    }
)  # fmt: skip
"""Names of what stands there, in place of it."""

_PUBLISHED: Final = frozenset(
    {
        # RFC 6749, 6750, 7009, 7617, 7636 and OpenID Connect Core, whose documentation is quoted everywhere.
        "czZCaGRSa3F0MzpnWDFmQmF0M2JW", "7Fjfp0ZBr1KtDRbnfVdmIw", "gX1fBat3bV", "2YotnFZFEjr1zCsicMWpAA",
        "tGzv3JOkF0XG5Qx2TlKWIA", "SplxlOBeZQQYbYS6WxSbIA", "mF_9.B5f-4.1JqM", "45ghiukldjahdnhzdauz",
        "QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "SlAV32hkKG",
    }
)  # fmt: skip
_IN_BRACKETS = re.compile(r"<[a-z]")
_TEMPLATE = re.compile(
    r"\$[A-Za-z_][A-Za-z0-9_]*\Z|\$[0-9]\Z|%[A-Za-z_][A-Za-z0-9_]*%\Z|@[A-Za-z_][A-Za-z0-9_.-]*@\Z|__[A-Za-z][A-Za-z0-9_]*__\Z"
    r"|\{[A-Za-z_][A-Za-z0-9_.]*\}\Z|\[[A-Za-z_][A-Za-z0-9_. -]*\]\Z|[!:&*][A-Za-z][A-Za-z_]*[0-9]?\Z"
    r"|%[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\Z|:[a-z]+:[A-Za-z]|\*{1,2}[A-Za-z_][A-Za-z0-9_]*\*{1,2}\Z"  # of documentation
    r"|[x*!]:[0-9]*:[0-9]*:"  # of /etc/passwd
    r"|\*\*[A-Za-z]+\Z|--[a-z][a-z-]*\Z|[a-z_]+=\Z"  # the next option, the next parameter
)
_OWN_TOKEN = re.compile(r"[A-Z]{2,6}_[A-Z2-7]{8}(?:[A-Z2-7]{5})?")
_ELSEWHERE = re.compile(
    r"\.{0,2}/|[A-Za-z]:\\|[a-z][a-z0-9+.-]*://|~/|(?:arn|op|ssm|keyring|keychain|sops|doppler|aws-sm|gcp-sm|azurekv|kms):"
)
_IDENTIFIER = re.compile(r"[A-Za-z_]+(?:[._:/-][A-Za-z_]+|[A-Z][a-z]+)*[0-9]?\Z")
# ``prod-db-secret-1``: words and small numbers, which name something.
_NAME = re.compile(r"(?:[A-Za-z]{2,12}|[vV]?[0-9]{1,4})(?:[-_.:/](?:[A-Za-z]{2,12}|[vV]?[0-9]{1,4})){1,12}\Z")
_FILE = re.compile(
    r"[A-Za-z0-9_./\\-]+\.(?:pem|key|crt|cer|p12|pfx|jks|json|ya?ml|txt|toml|ini|conf|cfg|env|py|[jt]sx?|go|rs|rb|java|md"
    r"|pub|asc|gpg|der|csr|sh|xml|html?|csv|log|lock|properties|tfvars)\Z"
)
# ``x-amz-content-sha256``: words with small numbers after them, whose letters `is_name` looks at.
_NUMBERED_NAME = re.compile(r"[A-Za-z]{1,14}[0-9]{0,4}(?:[-_.:/](?:[A-Za-z]{1,14}[0-9]{0,4}|[0-9]{1,4})){1,12}\Z")
_SCOPED = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*+)?(?:::[A-Za-z_][A-Za-z0-9_]*+)+\Z")
# A class, a constant or a function in a module, which is called after what it holds.
_TYPE = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*+\.)+[A-Za-z_][A-Za-z0-9_]*(?<=Key|ret|ken|ord|ial|als)\Z")
_ADDRESS = re.compile(r"[A-Za-z]+(?:[._-][A-Za-z]+)*@(?:[A-Za-z]+[.-])+[A-Za-z]{2,8}\Z")
_FIRST_WORD = re.compile(r"\S*")
_ESCAPED = re.compile(r"\\u([0-9A-Fa-f]{4})")
_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+(?:(?:\.|->|::|\?\.)[A-Za-z_][A-Za-z0-9_]*)+\Z")
_CODE_ROOT = re.compile(
    r"(?:self|this|cls|config|conf|cfg|settings|os|env|var|local|module|data|state|props|req|request|res|response|ctx"
    r"|context|process|user|args|params|options|opts|hashlib|base64|secrets|vars|values|inputs?|github|steps|needs|each"
    r"|random|crypto|session|form|body|payload|event|app|client|model|row|record|item|obj|result|std|string|uuid"
    r")[0-9]?(?:\.|->|::|\?\.)[A-Za-z_]"
)
_DIGEST = re.compile(
    r"(?:[0-9a-f]{2}[:-]){4,}[0-9a-f]{2}\Z|(?:sha(?:1|224|256|384|512)|md5|h1)[:-]|[a-z0-9./_-]+@sha(?:256|512):",
    re.IGNORECASE,
)
_COLOUR = re.compile(r"#(?:[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})\Z")
_ALGORITHM = re.compile(
    r"(?:scram-|hmac-)?(?:hmac|pbkdf2|sha|md|aes|rsa|ecdsa|ecdh|ed|bcrypt|scrypt|argon|base|pkcs|chacha|des|oauth|utf)[-_]?[0-9]{1,5}"
    r"(?:[-_]?(?:sha[0-9]{1,3}|hmac|md5|rsa|[gc]cm|cbc|ctr|ecb|oaep|kw|id|poly1305|url))*\Z",
    re.IGNORECASE,
)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.+-]+Z?)?\Z")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_UUID_CHARACTERS = 36
_SAID_OF_A_VALUE = re.compile(r"-[a-z]{4,}\Z")  # RS256-signed
_HEX = re.compile(r"[0-9a-f]+\Z", re.IGNORECASE)
_HEX_SEQUENCE = re.compile("1234567|abcdef", re.IGNORECASE)  # of `_PLACEHOLDERS`, those that are hexadecimal
_LOWER, _UPPER, _DIGIT = re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]")
_LETTER = re.compile("[A-Za-z]")
_LETTERS = re.compile("[A-Za-z]{4}")  # no words are all shorter
_CAPITAL = re.compile("(?<=[a-z])(?=[A-Z])")
# The pairs of letters that make up four fifths of English words and of names in code; of random ones a fifth.
_PAIRS = frozenset(
    pair
    for line in (
        "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi",
        "ri ro ic ne ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc",
        "et ut ss so rs un lo wa ge ie wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv",
        "ia am fi ci vi pl ig tu ev ld ry mp fe bl ab gh ty op wo sa ay ex ke fr oo av ag if ap gr od bo sp rd do",
        "uc bu ei ov by rm ep tt ey pu ub ok cr yp ue va yo go gu lu ck",
    )
    for pair in line.split()
)
_STEPS = frozenset(chr(code) + chr(code + step) for code in range(48, 122) for step in (0, 1))
_WEIGHTS = (0.0, *[count * log2(count) for count in range(1, 256)])


def entropy_share(value: str) -> float:
    """Shannon entropy of the characters, as a share of the most that a text of this length can have."""
    length = len(value)
    if length < 2:
        return 0.0
    counts = map(value.count, dict.fromkeys(value))
    parts = map(_WEIGHTS.__getitem__, counts) if length < 256 else [count * log2(count) for count in counts]
    return (log2(length) - sum(parts) / length) / log2(min(length, 64))


def character_classes(value: str) -> int:
    """How many of lower case, upper case, digits and other characters occur."""
    return (
        (_LOWER.search(value) is not None)
        + (_UPPER.search(value) is not None)
        + (_DIGIT.search(value) is not None)
        + (not value.isalnum() and value != "")
    )


def is_words(value: str, share: float = WORDS_SHARE) -> bool:
    """Whether a value is made of words, as ``AccessTokenV2Here`` and ``my-secret-value-1`` are."""
    if len(value) < _WORDS_CHARACTERS_MIN or not _LETTERS.search(value):
        return False
    # A capital begins a word: a pair that ends with one is none of a word.
    marked = _CAPITAL.sub("-", value).lower()
    return sum(map(_PAIRS.__contains__, map(add, marked, marked[1:]))) >= share * (len(marked) - 1)


def is_sequence(value: str) -> bool:
    """Whether nearly all characters follow upon the one before them, or repeat it: ``abcdef0123``."""
    pairs = len(value) - 1
    head = value[:_HEAD_CHARACTERS]  # of what is none, this mostly tells it
    if len(head) - 1 - sum(map(_STEPS.__contains__, map(add, head, head[1:]))) > (1 - SEQUENCE_SHARE) * pairs:
        return False
    return sum(map(_STEPS.__contains__, map(add, value, value[1:]))) >= SEQUENCE_SHARE * pairs


def is_placeholder(value: str) -> bool:
    """Whether the value visibly stands for a secret (``${TOKEN}``, ``your-key``, ``xxxx``) or is one of our tokens."""
    lowered = value.lower()
    if any(map(lowered.__contains__, _PLACEHOLDERS)) or len(set(value)) < 4 or value in _PUBLISHED:
        return True
    return not value.isalnum() and (  # all of these have a sign
        lowered.endswith("..")
        or ("<" in lowered and _IN_BRACKETS.search(lowered) is not None)
        or _TEMPLATE.match(value) is not None
        or _OWN_TOKEN.fullmatch(value) is not None
    )


def is_sample(value: str, prefix: str = "") -> bool:
    """Whether a value with an issuer's prefix is one of the issuers' documentation, or of someone's."""
    rest = value[len(prefix) :]
    return (
        len(set(rest)) < DISTINCT_CHARACTERS_MIN
        or value.endswith("EXAMPLE")
        or "xxxxx" in value.lower()
        or is_sequence(rest)
        or is_words(rest, _SAMPLE_WORDS_SHARE)
    )


def _unescaped(value: str) -> str:
    """A value as it would be in plain letters, up to one of another script: ``Contrase\\u00f1a`` of JSON is a word."""
    if "\\u" not in value:
        return value
    text = fold(_ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), value)).text
    return _FIRST_WORD.match(text)[0]  # type: ignore[index]


def _is_name(value: str) -> bool:
    """Whether words with small numbers after some of them name something: ``x-amz-content-sha256``."""
    if not _NUMBERED_NAME.match(value):
        return False
    runs = re.findall("[a-z]{3,}", _CAPITAL.sub("-", value).lower())
    pairs = [pair for run in runs for pair in map(add, run, run[1:])]
    return len(pairs) >= _NAME_PAIRS_MIN and sum(map(_PAIRS.__contains__, pairs)) >= _SAMPLE_WORDS_SHARE * len(pairs)


def is_password(value: str) -> bool:
    """Whether a value that something calls a password is one: two kinds of character, and no word or reference."""
    value = _unescaped(value)
    return (
        len(value) >= PASSWORD_CHARACTERS_MIN
        and not value.replace(".", "", 1).isdigit()
        and any(map(str.isalnum, value))
        and character_classes(value) >= 2
        and not is_placeholder(value)
        and not _is_elsewhere(value)
        and not (_IDENTIFIER.match(value) and not _DIGIT.search(value))
        and not _CODE_ROOT.match(value)
        and not _SCOPED.match(value)
        and not _COLOUR.match(value)
        and not _TIME.match(value)
        and not _ADDRESS.match(value)
        and not _ALGORITHM.match(value)
    )


def is_said_password(value: str) -> bool:
    """Whether a word of prose after "the password is" is one: as `is_password`, with a digit among letters."""
    return (
        _DIGIT.search(value) is not None
        and _LETTER.search(value) is not None
        and character_classes(value) >= 3
        and not _SAID_OF_A_VALUE.search(value)
        and is_password(value)
    )


def is_key(value: str) -> bool:
    """Whether a value that something calls a key, a token or a secret is one: long, random and no name."""
    value = _unescaped(value)
    if len(value) < VALUE_CHARACTERS_MIN or _IDENTIFIER.match(value):
        return False
    if _HEX.match(value):  # of few characters it has little entropy
        is_long = len(value) >= 16 and not value.isdigit() and not _HEX_SEQUENCE.search(value)
        return is_long and entropy_share(value) > 0.5
    if is_placeholder(value):
        return False
    if not value.isalnum():  # all of these have a sign
        if _is_elsewhere(value) or _NAME.match(value) or (_MEMBER.match(value) and _is_code(value)):
            return False
        if _TYPE.match(value) or _is_name(value):
            return False
        if len(value) == _UUID_CHARACTERS and _UUID.fullmatch(value):
            return True
    return (
        _DIGIT.search(value) is not None
        and character_classes(value) >= 2
        and entropy_share(value) >= _ENTROPY_MIN
        and not is_words(value)
        and not _TIME.match(value)
        and not _ALGORITHM.match(value)
    )


def _is_elsewhere(value: str) -> bool:
    """Whether the value names a place where a secret is kept, or is a digest of something."""
    return (
        _ELSEWHERE.match(value) is not None
        or (value[-5:].find(".") >= 0 and _FILE.match(value) is not None)
        or _DIGEST.match(value) is not None
    )


def _is_code(value: str) -> bool:
    return _CODE_ROOT.match(value) is not None or all(
        len(part) < 2 or _IDENTIFIER.match(part) is not None for part in re.split(r"\.|->|::|\?\.", value)
    )
