"""From text to the terms of the lexical index: normalise, split, drop stop words, stem; for documents and for queries.

Both sides run the same steps, so that equal words become equal terms. Codes (``AB-1234``, ``v2.3.1``, ``foo_bar``,
paths, addresses) are kept whole and in parts; Chinese, Japanese, Korean and Thai become character bigrams. Scoring is
:mod:`roadbed.knowledge.lexical`'s, storage the index's. The invariant: whatever changes a term changes ``ANALYZER``,
which a generation records; numbers must be checked on the original text, since NFKC turns ``10²`` into ``102``.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import Stemmer

from roadbed.knowledge.language import DEFAULT_LANGUAGE, detect_language
from roadbed.knowledge.particle_verbs import ONE_WORD, PARTICLES
from roadbed.knowledge.stop_words import STOP_WORDS, STOP_WORDS_VERSION

__all__ = [
    "ANALYZER",
    "QUERY_CHARS_MAX",
    "QUERY_TERMS_MAX",
    "AnalysedText",
    "QueryWord",
    "analyse",
    "detect_language",
    "holds_identifier",
    "query_identifiers",
    "query_words",
    "word_terms",
]

QUERY_CHARS_MAX = 1_024
QUERY_TERMS_MAX = 32
REPETITION = 8.0  # BM25's k3
TERM_CHARS_MAX = 64  # longer ones (keys, base64) are cut, on both sides alike
CODE_PARTS_MAX = 16
ACRONYM_CHARS_MIN = 2
REMEMBERED_TOKENS_MAX = 65_536

ANALYZER = f"analyzer=v2:snowball{Stemmer.version()}:{STOP_WORDS_VERSION}"

_STEMMERS = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hi": "hindi",
    "hy": "armenian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
_ELISION = {
    "fr": frozenset(["c", "d", "j", "jusqu", "l", "lorsqu", "m", "n", "puisqu", "qu", "quoiqu", "s", "t"]),
    "it": frozenset(["all", "c", "d", "dall", "dell", "l", "nell", "quell", "quest", "s", "sull", "un"]),
}

_MARKS = "".join(chr(point) for point in range(0x300, 0x1100) if unicodedata.category(chr(point))[0] == "M")
_LETTER = rf"[^\W_{_MARKS}][{_MARKS}]*"
_WORD = rf"(?:{_LETTER})+"
_ASCII_WORD = "[A-Za-z0-9]+"  # a third of the time, and most text is ASCII


def _token_pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"[A-Za-z](?:\+\+|#)(?!\w)|{word}(?:(?:::|[-_.,/@\\:'+&])+{word})*")


_TOKEN, _ASCII_TOKEN = _token_pattern(_WORD), _token_pattern(_ASCII_WORD)
_PART = re.compile(_WORD)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_HUMP = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
_DOTTED = re.compile(r"\.[a-z\d]")
_SEGMENTS = re.compile(r"[/\\@:,&+]+")
_HYPHENS = dict.fromkeys([0x2010, 0x2011, 0x2012, 0x2013, 0x2212], "-")
_INVISIBLE = dict.fromkeys([0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF])
_TRANSLATION = {**_HYPHENS, **_INVISIBLE, 0x2019: "'", 0x02BC: "'"}
_ACCENTS = re.compile(r"[\u0300-\u036f]+")
# Han with extensions, kana, hangul, Thai, Lao, Khmer, Myanmar: written without blanks, or inflected by suffix.
_UNSPACED_RANGES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003134f"
)
_RUN = re.compile(r"[^\W\d_]+|\d+")
_UNSPACED = re.compile(rf"[{_UNSPACED_RANGES}]+")

_local = threading.local()


PARTICLE_LANGUAGE = "en"
_PARTICLE_SPELLINGS = frozenset(form for word in PARTICLES for form in (word, word.title(), word.upper()))


class AnalysedText(NamedTuple):
    """The terms of a document or chunk. ``length`` counts its content words, though stop words are terms too."""

    frequencies: Counter[str]
    length: int


class _Token(NamedTuple):
    """One term in waiting. A word is stemmed and may be a stop word; a whole code or a bigram is taken as it is."""

    text: str
    is_word: bool
    is_acronym: bool = False


class _Term(NamedTuple):
    """A finished term, whether it is a stop word, and whether it is written as an acronym."""

    term: str
    is_stop_word: bool
    is_acronym: bool


def _stem(word: str, language: str) -> str:
    """The stem in one language, without Latin, Greek and Cyrillic accents. A stemmer belongs to one thread."""
    name = _STEMMERS.get(language)
    if language == DEFAULT_LANGUAGE:
        word = _unaccented(word)  # first: its accents are borrowed, and "résumé" is to meet "resume"
    if name is not None:
        stemmers: dict[str, Any] = _local.__dict__.setdefault("stemmers", {})
        stemmer = stemmers.get(name)
        if stemmer is None:
            stemmer = stemmers[name] = Stemmer.Stemmer(name)
        word = stemmer.stemWord(word)
    return _unaccented(word)[:TERM_CHARS_MAX]


def _unaccented(word: str) -> str:
    if word.isascii():
        return word
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", word)))


def _normalised(text: str) -> str:
    """NFKC, with one hyphen, one apostrophe and no invisible characters; letters keep their case."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text).translate(_TRANSLATION)


def _bigrams(run: str) -> Iterator[_Token]:
    if len(run) == 1:
        yield _Token(run, False)
    for start in range(len(run) - 1):
        yield _Token(run[start : start + 2], False)


def _is_code(token: str) -> bool:
    """Whether a token with inner punctuation is a name to be found as a whole, rather than words joined by a hyphen."""
    if any(character.isdigit() or character in "_@\\" for character in token):
        return True
    return "::" in token or token.count("/") >= 2 or _DOTTED.search(token) is not None


def _segments(token: str) -> Iterator[_Token]:
    """The codes within a path or an address: ``/etc/ssh/sshd_config`` is found by ``sshd_config``."""
    for segment in _SEGMENTS.split(token)[:CODE_PARTS_MAX]:
        if segment != token and not segment.isalnum() and _is_code(segment):
            yield _Token(_whole(segment), False)


def _whole(token: str) -> str:
    """One spelling of a code: ``AB-1234``, ``ab_1234`` and ``AB1234`` are the same, ``2.31`` and ``23.1`` are not."""
    return token.casefold().replace("-", "").replace("_", "")[:TERM_CHARS_MAX]


def _word_tokens(part: str) -> Iterator[_Token]:
    """A run of letters and digits: bigrams where the script has no blanks, else a word, and its humps if any."""
    position = 0
    if not part.isascii():
        for run in _UNSPACED.finditer(part):
            if run.start() > position:
                yield _Token(part[position : run.start()].casefold(), True)
            yield from _bigrams(run.group())
            position = run.end()
        if position == len(part):
            return
    rest = part[position:]
    humps = _HUMP.split(rest)
    if len(humps) > 1:
        yield _Token(_whole(rest), False)
        for hump in humps[:CODE_PARTS_MAX]:
            yield _Token(hump.casefold(), True)
    else:
        yield _Token(rest.casefold(), True, is_acronym=len(rest) >= ACRONYM_CHARS_MIN and rest.isupper())


def _raw_tokens(text: str) -> list[str]:
    """The words, codes and runs of a normalised text, as written, in order."""
    return (_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text)


def _tokens_of(raw: str) -> Iterator[_Token]:
    """What one raw token stands for; a code gives itself and then its parts."""
    if raw.isalnum():
        yield from _word_tokens(raw)
    elif raw.endswith(("++", "#")):
        yield _Token(raw.casefold(), False)
    elif _NUMBER.fullmatch(raw):
        yield _Token(raw.replace(",", "") if _THOUSANDS.fullmatch(raw) else raw, False)
    elif "'" in raw and raw.replace("'", "").isalpha():
        yield _Token(raw.casefold(), True)
    else:
        raw = raw.removesuffix("'s")
        if _is_code(raw):
            yield _Token(_whole(raw), False)
            yield from _segments(raw)
        for part in _PART.findall(raw)[:CODE_PARTS_MAX]:
            yield from _word_tokens(part)


def _unelided(word: str, language: str) -> str:
    """``l'avion`` -> ``avion`` where the language writes so."""
    head, apostrophe, tail = word.partition("'")
    return tail if apostrophe and tail and head in _ELISION.get(language, ()) else word


def _terms_of(raw: str, language: str) -> tuple[_Term, ...]:
    """The terms of one raw token in one language, remembered per thread: twice as fast on prose."""
    known: dict[tuple[str, str], tuple[_Term, ...]] = _local.__dict__.setdefault("known", {})
    terms = known.get((language, raw))
    if terms is None:
        terms = tuple(_make_terms(raw, language))
        if len(raw) <= TERM_CHARS_MAX:
            if len(known) >= REMEMBERED_TOKENS_MAX:
                known.clear()
            known[(language, raw)] = terms
    return terms


def _make_terms(raw: str, language: str) -> Iterator[_Term]:
    stop_words = STOP_WORDS.get(language, frozenset())
    for token in _tokens_of(raw):
        if not token.is_word:
            yield _Term(token.text[:TERM_CHARS_MAX], False, False)
            continue
        word = _unelided(token.text, language) if "'" in token.text else token.text
        if word in stop_words:
            yield _Term(word[:TERM_CHARS_MAX], True, token.is_acronym)
        elif term := _stem(word, language):
            yield _Term(term, False, token.is_acronym)


def _one_words(raw_tokens: Sequence[str], language: str) -> Iterator[str]:
    """The terms of verbs with a particle (``log in``, ``backed up``, ``set-up``) as they are written in one word."""
    if language != PARTICLE_LANGUAGE:
        return
    for before, raw in pairwise(("", *raw_tokens)):
        if raw in _PARTICLE_SPELLINGS:
            verb, particle = before, raw
        elif "-" in raw:
            verb, _, particle = raw.partition("-")
        else:
            continue
        if term := _one_word(verb.casefold(), particle.casefold()):
            yield term


@cache
def _known_one_words() -> dict[tuple[str, str], str]:
    stems = {(_stem(verb, PARTICLE_LANGUAGE), particle): joined for (verb, particle), joined in ONE_WORD.items()}
    return {pair: _stem(joined, PARTICLE_LANGUAGE) for pair, joined in stems.items()}


def _one_word(verb: str, particle: str) -> str | None:
    return _known_one_words().get((_stem(verb, PARTICLE_LANGUAGE), particle)) if verb.isalpha() else None


def analyse(text: str, language: str = DEFAULT_LANGUAGE) -> AnalysedText:
    """The terms of a chunk with their frequencies, in the language of its document (:func:`detect_language`).

    Stop words are terms too, so that "The Who" can be found, but they add nothing to ``length``, nor does the one word
    that "back up" is written as too.
    """
    raw_tokens = _raw_tokens(_normalised(text))
    frequencies: Counter[str] = Counter(_one_words(raw_tokens, language))
    length = 0
    for raw, count in Counter(raw_tokens).items():
        for term, is_stop_word, _ in _terms_of(raw, language):
            frequencies[term] += count
            length += 0 if is_stop_word else count
    return AnalysedText(frequencies, length)


def word_terms(text: str, language: str = DEFAULT_LANGUAGE) -> list[str]:
    """The content terms of a text in order, with repetitions and without stop words: for overlap and highlighting.

    Last come the one words that verbs with a particle are written as too.
    """
    raw_tokens = _raw_tokens(_normalised(text))
    found = (term for raw in raw_tokens for term in _terms_of(raw, language))
    return [*(term.term for term in found if not term.is_stop_word), *_one_words(raw_tokens, language)]


class QueryWord(NamedTuple):
    """One word of a query: its terms in the languages asked in, the first its name, and the factor for its idf."""

    terms: tuple[str, ...]
    factor: float


def query_words(query: str, languages: Sequence[str] = (DEFAULT_LANGUAGE,)) -> list[QueryWord]:
    """The distinct words of a query in order, at most 32, each with its terms in every language.

    The terms of a word are counted together: else "management", which an English text holds as ``manag``, would weigh
    as the rarest of words wherever a single document is in another language. The factor is BM25's for repetition in the
    query, ``n (k3 + 1) / (n + k3)``: 1 for a word said once; it matters in a pasted paragraph (CISI nDCG@10 .390
    instead of .343). A query's own language is not guessed, since two words do not tell it: a stop word of any of the
    languages is one. Stop words count only when there is nothing else ("who are you"), or when written in capitals
    inside a query that is not ("WHO guidance", "US sales").
    """
    normalised = _normalised(query[:QUERY_CHARS_MAX])
    keeps_acronyms = any(character.islower() for character in normalised)
    raw_tokens = _raw_tokens(normalised)
    asked = [word for raw in raw_tokens for word in _across(raw, tuple(dict.fromkeys(languages)))]
    stopped = {form.term for forms in asked for form in forms if form.is_stop_word}
    content, stop_words = _Words(), _Words()
    for forms in asked:
        is_name = keeps_acronyms and any(form.is_acronym for form in forms)
        terms = tuple(dict.fromkeys(form.term for form in forms))
        (stop_words if stopped.intersection(terms) and not is_name else content).add(terms)
    for term in dict.fromkeys(_one_words(raw_tokens, PARTICLE_LANGUAGE if PARTICLE_LANGUAGE in languages else "")):
        if term not in content.counts:
            content.add((term,))
    return (content if content.counts else stop_words).first(QUERY_TERMS_MAX)


def _across(raw: str, languages: tuple[str, ...]) -> Iterator[tuple[_Term, ...]]:
    """The forms of each word of a raw token, over the languages; forms that cannot be matched stand alone."""
    ways = [_terms_of(raw, language) for language in languages]
    if len({len(way) for way in ways}) == 1:
        yield from zip(*ways, strict=True)
    else:
        yield from ((form,) for form in dict.fromkeys(form for way in ways for form in way))


class _Words:
    """Words in the order in which they came; two that have a term in common are one."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._terms: dict[str, tuple[str, ...]] = {}
        self._name_of: dict[str, str] = {}

    def add(self, terms: tuple[str, ...]) -> None:
        known = list(dict.fromkeys(self._name_of[term] for term in terms if term in self._name_of))
        name = known[0] if known else terms[0]
        count = 1
        for other in known:
            count += self.counts[other]
            terms = self._terms[other] + terms
        self.counts[name] = count
        for other in known[1:]:
            del self.counts[other], self._terms[other]
        self._terms[name] = tuple(dict.fromkeys((name, *terms)))
        self._name_of.update(dict.fromkeys(terms, name))

    def first(self, count: int) -> list[QueryWord]:
        factors = {name: said * (REPETITION + 1.0) / (said + REPETITION) for name, said in self.counts.items()}
        return [QueryWord(self._terms[name], factor) for name, factor in list(factors.items())[:count]]


def query_identifiers(query: str) -> frozenset[str]:
    """The terms of a query that name one thing each, like ``CVE-2020-7711`` or ``INC0012345``.

    A token with two capitals and three digits, or with a letter and five digits: years, versions and "12-month" are
    none.
    """
    tokens = (raw.removesuffix("'s") for raw in _raw_tokens(_normalised(query[:QUERY_CHARS_MAX])))
    return frozenset(_terms_of(raw, DEFAULT_LANGUAGE)[0].term for raw in tokens if _is_identifier(raw))


def _is_identifier(raw: str) -> bool:
    digits = sum(map(str.isdigit, raw))
    capitals = sum(map(str.isupper, raw))
    return (digits >= 3 and capitals >= 2) or (digits >= 5 and any(map(str.isalpha, raw)))


def holds_identifier(terms: Container[str], identifier: str) -> bool:
    """Whether a text of these terms holds it, whole or in its runs of letters and digits (``ISO 27001``)."""
    return identifier in terms or all(run in terms for run in _RUN.findall(identifier))
