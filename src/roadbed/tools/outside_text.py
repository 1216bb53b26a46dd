"""Text that others wrote and a model will read: descriptions of operations, messages of errors. Pure.

Judged before it becomes part of a tool: what is invisible, or speaks to a model in place of describing, does not get
in. This stops the known ways of poisoning a description; the rules on what tools may do stop what it misses. The
invariant: cleaned text has no control, formatting or tag character, and is as short as was asked.
"""

from __future__ import annotations

import re
import unicodedata

DESCRIPTION_CHARACTERS_MAX = 1_000
MESSAGE_CHARACTERS_MAX = 300

_TAGS = re.compile("[\U000e0000-\U000e007f]")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\u00ad\u180e\ufff9-\ufffb]")
_SPEAKS_TO_A_MODEL = re.compile(
    r"""(?ix)
    \b(ignore|disregard|forget|override)\b .{0,40} \b(previous|prior|above|earlier|all|any|your|system)\b
        .{0,30} \b(instruction|prompt|rule|message|context|guideline)s?\b
    | </? \s* (important|system|instructions?|assistant|admin|secret) \s* >
    | \[/?(inst|system)\] | <\|[a-z_]+\|>
    | \b(do\s+not|don'?t|never|without)\b .{0,30} \b(tell|inform|mention|notify|ask|alert)(ing)?\b .{0,25}
        \b(user|human|operator|person)\b
    | \b(before|after|instead\s+of|whenever) \s+ (you\s+)? (us|call|invok|runn?)(e|ing)? \b .{0,25}
        \b(this|any|other|another|the)\b .{0,20} \b(tool|function)s?\b
    | \b(you\s+must|always|first) \b .{0,30} \b(call|invoke|use|run|read|send|include|pass)\b .{0,60}
        \b(tool|function|file|password|credential|token|api\s+key|secret|conversation|system\s+prompt)s?\b
    | \b(you\s+are\s+now|act\s+as|new\s+instructions?|system\s+prompt|as\s+an\s+ai)\b
    | \b(exfiltrat|jailbreak)\w*
    | ~/\.(ssh|aws|config|cursor)\b | \bid_rsa\b | /etc/(passwd|shadow)\b
    """,
    re.DOTALL,
)

_WORD = re.compile(r"\w+")
_CYRILLIC = re.compile("[\u0400-\u052f]")
_GREEK_LIKE_LATIN = re.compile("[ΑΒΕΖΗΙΚΜΝΟΡΤΥΧανορυ]")


def why_suspicious(text: str) -> str:
    """What is wrong with a description, in a few words; empty when nothing is."""
    if _TAGS.search(text) or _INVISIBLE.search(text):
        return "it holds invisible characters"
    if any(unicodedata.category(character) == "Cc" and character not in "\t\n\r" for character in text):
        return "it holds control characters"
    if any(map(_mixes_alphabets, _WORD.findall(text))):
        return "it mixes alphabets in a word"
    folded = " ".join(unicodedata.normalize("NFKC", text).split())
    if _SPEAKS_TO_A_MODEL.search(folded):
        return "it speaks to a model in place of describing"
    return ""


def _mixes_alphabets(word: str) -> bool:
    """Whether Latin letters stand beside letters of other alphabets that look like them."""
    if word.isascii() or not re.search("[A-Za-z]", word):
        return False
    return bool(_CYRILLIC.search(word) or _GREEK_LIKE_LATIN.search(word))


def cleaned(text: str, characters_max: int) -> str:
    """Text on few lines without what cannot be seen, cut with an ellipsis."""
    visible = "".join(
        character if unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Cn") or character == "\n" else " "
        for character in text[: characters_max * 4]
    )
    lines = [" ".join(line.split()) for line in visible.split("\n")]
    short = "\n".join(line for line in lines if line)
    return short if len(short) <= characters_max else short[: characters_max - 1].rstrip() + "…"
