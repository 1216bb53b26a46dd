"""What kind of thing a question asks for, and whether a text holds such a thing that the question does not.

Surface cues only, in English with the question words of a few neighbours. A cue raises a sentence, its absence never
removes one. Pure; used by the extractive answer and its confidence.
"""

from __future__ import annotations

import re
from typing import Literal

AnswerType = Literal[
    "contact",
    "date",
    "duration",
    "pace",
    "money",
    "percent",
    "distance",
    "number",
    "person",
    "place",
    "reason",
    "other",
]

_CUES: tuple[tuple[AnswerType, str], ...] = (
    (
        "contact",
        r"\b(?:tele)?phone (?:number|line)|\be-?mail address|\b(?:web|internet|postal) address|\bwebsite address|"
        r"\bwhat (?:is|are) (?:\S+ ){1,6}(?:urls?|e-?mails?|fax)\b|\btelefonnummer|\bnuméro de téléphone",
    ),
    ("percent", r"what (?:percent|percentage|share|proportion|fraction)|how many percent|wie viel prozent"),
    (
        "duration",
        r"how long|how (?:many|much) (?:days?|weeks?|months?|years?|hours?|minutes?|time|notice)|within (?:which|what) "
        r"time|how old|wie lange|combien de temps|cuánto tiempo|hvor lenge",
    ),
    ("pace", r"how (?:fast|quick|quickly|soon|speedy|speedily|promptly)\b|wie schnell|hvor (?:fort|raskt)"),
    (
        "money",
        r"how much (?:does|do|did|is|was|are|were|will|would|money|can|may)|what (?:does|do|did) [^?]{1,80}\bcosts?\b|"
        r"what (?:is|was|are|were) the (?:\w+ ){0,3}(?:price|cost|fee|salary|budget|rate|surcharge|value|worth|yield)|"
        r"\bworth\b|at (?:which|what) price|(?:up to|above|below) (?:which|what) value|was kostet|combien coûte",
    ),
    ("distance", r"how (?:far|close|tall|high|wide|deep|large|big|heavy|thick)\b|wie weit"),
    ("number", r"how many|how often|how frequently|what number|which number|wie viele?|combien|cuánt[oa]s|hvor mange"),
    (
        "date",
        r"\bwhen\b|(?:what|which|in what|in which|by what) (?:\w+ ){0,2}(?:year|date|day|month|decade|century|time)\b|"
        r"\bwann\b|\bquand\b|\bcuándo\b|\bnår\b",
    ),
    (
        "person",
        r"\bwho\b|\bwhom\b|\bwhose\b|(?:what|which) (?:\w+ ){0,2}(?:person|man|woman|scientist|author|president|king|"
        r"queen|engineer|director|actor|singer|leader|player|coach|inventor)\b|\bwer\b|\bwem\b|\bqui\b|\bquién\b",
    ),
    (
        "place",
        r"\bwhere\b|(?:what|which|in what|in which) (?:\w+ ){0,2}(?:city|country|state|place|town|location|continent|"
        r"region|county|river|island|building|office|room)\b|\bwo\b|\bwohin\b|\boù\b|\bdónde\b|\bhvor\b",
    ),
    ("reason", r"\bwhy\b|what (?:caused|is the reason|was the reason)|\bwarum\b|\bpourquoi\b"),
)
_QUESTIONS = tuple((kind, re.compile(cue, re.IGNORECASE)) for kind, cue in _CUES)

_NUMBER_WORDS = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    r"eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|billion|"
    r"dozens?|half|once|twice|thrice|several|many|both|no|none|zero)"
)
_AMOUNT = rf"(?:\d[\d.,\u00a0 ]*|\b{_NUMBER_WORDS}\b)"
_MONTHS = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_HOLDS: dict[AnswerType, re.Pattern[str]] = {
    "contact": re.compile(
        r"[\w.+-]@\w|https?://|\bwww\.|\+?\(?\d{2,4}\)?[ .\-/]\(?\d{2,4}\)?[ .\-/]?\d{2,}|\b\d{8,}\b", re.IGNORECASE
    ),
    "date": re.compile(
        rf"\b(?:1[0-9]|20)\d\d s?\b|\b(?:1[0-9]|20)\d\ds?\b|\b\d{{1,2}}\.? {_MONTHS}\b|\b{_MONTHS}\.? \d|"
        r"\b\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}\b|\b\d{1,2}:\d\d\b|\b\d{1,2} ?(?:am|pm)\b|\bcentur(?:y|ies)\b|"
        r"\b(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|spring|summer|autumn|winter)s?\b|"
        r"\b(?:before|after|until|during|daily|weekly|monthly|yearly|annually|every|quarter)\b|"
        r"\b\d{2,4} (?:BC|AD|CE)\b",
        re.IGNORECASE,
    ),
    "duration": re.compile(
        rf"{_AMOUNT}[ -]*(?:\w+ ){{0,2}}(?:seconds?|minutes?|hours?|days?|nights?|weeks?|months?|years?|decades?|"
        r"centur(?:y|ies)|shifts?)\b|\b(?:forever|permanently|indefinitely|unlimited)\b",
        re.IGNORECASE,
    ),
    "money": re.compile(
        r"[$€£¥₹]\s?\d|\d[\d.,]*\s?(?:%|percent|per cent|[$€£¥]|USD|EUR|GBP|NOK|SEK|DKK|CHF|kr\b|dollars?|euros?|"
        r"pounds?|million|billion)|\b(?:USD|EUR|GBP|NOK|SEK|DKK|CHF|US\$) ?\d|\bfree\b|\| *\d[\d.,]*|\d,\d{3}",
        re.IGNORECASE,
    ),
    "percent": re.compile(
        rf"\d\s?%|\d\s?per ?cent|\b{_NUMBER_WORDS} per ?cent|\b(?:half|third|quarter|fifth|majority|two-thirds)\b",
        re.IGNORECASE,
    ),
    "distance": re.compile(
        rf"{_AMOUNT}\s*-?(?:\w+ )?(?:km|cm|mm|nm|m|miles?|mi|feet|foot|ft|inch(?:es)?|met(?:re|er)s?|"
        r"kilomet(?:re|er)s?|acres?|hectares?|ha|kg|g|tons?|tonnes?|pounds?|lbs?|mph|km/h|knots|m²|sq|square)\b|"
        r"\bacres?\b",
        re.IGNORECASE,
    ),
    "number": re.compile(
        rf"\d|\b{_NUMBER_WORDS}\b|\b(?:hourly|daily|weekly|monthly|quarterly|yearly|annual|annually|every|each)\b",
        re.IGNORECASE,
    ),
    "reason": re.compile(
        r"\b(?:because|since|due to|owing to|as a result|so that|in order to|therefore|caused?|reason|led to|to avoid|"
        r"weil|damit|wegen|parce que)\b",
        re.IGNORECASE,
    ),
}
_HOLDS["pace"] = re.compile(
    rf"{_HOLDS['duration'].pattern}|{_HOLDS['distance'].pattern}|"
    r"\d ?%|\b(?:per|a|an|each|every) (?:second|minute|hour|day|week)\b|"
    r"\b(?:immediately|instantly|at once|overnight|hourly|daily|(?:the )?(?:same|next) (?:working |business )?day)\b",
    re.IGNORECASE,
)
"""A duration as well as a speed: an order is as fast as it is delivered."""
_NAME = re.compile(
    r"(?<![.!?]\s)(?<!^)\b[A-ZÀ-ÖØ-Þ][\w'’.-]*(?:\s+(?:(?:of|de|van|von|der|the|la|le|al|bin)\s+)?[A-ZÀ-ÖØ-Þ][\w'’-]*)*"
)
_FIRST_NAME = re.compile(r"^\W*((?:[A-ZÀ-ÖØ-Þ][\w'’.-]*\s+)+[A-ZÀ-ÖØ-Þ][\w'’-]*)")
_TITLES = re.compile(
    r"\b(?:manager|director|team|officer|lead|head|owner|board|department|desk|group|staff|employees?|appraisers?|"
    r"everyone|anyone|ceo|cto|people|members?|reviewer|committee|partners?)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")


def answer_type(question: str) -> AnswerType:
    """The kind of answer that a question asks for; ``other`` when its words do not say."""
    for kind, cue in _QUESTIONS:
        if cue.search(question):
            return kind
    return "other"


def holds(kind: AnswerType, text: str, question: str) -> bool:
    """Whether the text holds something of this kind. Names and numbers of the question itself do not count."""
    if kind in ("person", "place"):
        return _holds_name(text, question) or (kind == "person" and _TITLES.search(text) is not None)
    pattern = _HOLDS.get(kind)
    if pattern is None:
        return False
    asked = question.casefold()
    return any(match.group().casefold().strip(" .,") not in asked for match in pattern.finditer(text))


def _holds_name(text: str, question: str) -> bool:
    asked = set(_WORD.findall(question.casefold()))
    first = _FIRST_NAME.match(text)
    names = [match.group() for match in _NAME.finditer(text)] + ([first[1]] if first else [])
    return any(not set(_WORD.findall(name.casefold())) <= asked for name in names)
