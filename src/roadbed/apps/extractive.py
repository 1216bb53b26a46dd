"""The answer without a model: at most five verbatim sentences of the best passages, and how sure one may be of them.

Sentences are first ranked by words, then the best of them by vectors too, and repeats are left out. Nothing is
written that a document does not say; the copilot shows the spans as citations. It holds no state and caches nothing.
The invariant: every sentence is a span of its hit's text, and at most `EMBEDDED_MAX` of them are embedded.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadbed.apps.answer_type import AnswerType, answer_type, holds
from roadbed.apps.calibration import THRESHOLD, Signals, confidence
from roadbed.apps.mismatch import mismatch
from roadbed.apps.passage_units import UNIT_CHARACTERS_MAX, Span, Unit, announced_end, units
from roadbed.kernel.errors import Unavailable
from roadbed.knowledge.analysis import holds_identifier, query_identifiers, query_words, word_terms
from roadbed.knowledge.language import detect_language
from roadbed.knowledge.search import Hit, SearchResult

HITS_MAX = 20
EMBEDDED_MAX = 24  # more found nothing more on any set of bench/qa
SENTENCES_MAX = 5
EMBEDDED_CHARACTERS_MAX = 400
LANGUAGE_CHARACTERS = 400
WORDS_MIN = 3
MMR_RELEVANCE = 0.85
SCORE_SHARE_MIN = 0.65  # of the best sentence's score; costs one answer in a hundred and spares a third of the text
ELSEWHERE_SHARE_MIN = 0.75  # of another document's sentence, where it has no word of the question that others lack
NEAR_SHARE = 0.16
HEADING_SHARE = 0.6
NAMED_SHARE = 0.5
OPENING_SHARE = 0.12
OPENED_MIN = 0.8  # of the question's weight that a heading has which asks it, or nearly
REPEAT_SIMILARITY_MIN = 0.95
COSINE_BY_WORDS = 0.7  # stands in for a cosine where there are no vectors: about what full cover goes with
BM25_WEIGHT_MAX = 2.2

Embed = Callable[[Sequence[str]], Awaitable[Any]]
_QUOTABLE = frozenset(["sentence", "item", "row", "code", "question", "intro", "note"])
_POOR = frozenset(["question", "intro", "note"])
_WORD = re.compile(r"\w+")
_GIVEN_UP = "superseded|obsolete|withdrawn|deprecated|archived|repealed|outdated|replaced|no longer|being deleted"
_OUT_OF_FORCE = re.compile(
    rf"^\W*status\W+(?:{_GIVEN_UP})\b|"
    rf"\bthis (?:document|page|policy|note|version|article|standard) (?:is|was|has been) (?:now )?(?:{_GIVEN_UP})\b",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class ExtractedSentence:
    """One sentence. ``start`` and ``end`` are offsets into ``hit.text``, as is ``lead``.

    ``lead`` is the header of the table or the line before the list that the sentence stands in, if any.
    """

    hit: Hit
    start: int
    end: int
    score: float
    lead: Span | None = None

    @property
    def text(self) -> str:
        """The sentence as it stands in the document."""
        return self.hit.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Extract:
    """At most five sentences in reading order, and the chance that they answer. An abstention holds none.

    ``by_words`` tells that the sentences were ranked without their vectors, which were late or away.
    """

    sentences: tuple[ExtractedSentence, ...]
    confidence: float
    is_abstention: bool
    signals: Signals | None = None
    by_words: bool = False


@dataclass(slots=True)
class Candidate:
    """A unit under consideration. Shares are of the question's idf mass, each 0 to 1.

    ``named`` is 1 where it, or what stands above it, holds an identifier of the question, ``opens`` where it is the
    first under a heading that is nearly the question: there the answer is often given in other words. ``end`` is where
    its quotation ends: a line that announces a list is quoted with the list. ``words`` are the question's that it or
    what stands above it holds.
    """

    hit: Hit
    rank: int
    unit: Unit
    text: str
    end: int
    words: Collection[str] = frozenset()
    own: float = 0.0
    near: float = 0.0
    above: float = 0.0
    chunk: float = 0.0
    typed: float = 0.0
    poor: float = 0.0
    named: float = 0.0
    opens: float = 0.0
    cosine: float = 0.0
    score: float = 0.0

    def holds(self, other: Candidate) -> bool:
        """Whether the other one stands within what is quoted for this one."""
        return self.hit is other.hit and self.unit.start < other.unit.start < self.end


async def extract(
    question: str,
    result: SearchResult,
    embed: Embed,
    *,
    threshold: float | None = None,
    sentences_max: int = SENTENCES_MAX,
    said: str | None = None,
) -> Extract:
    """The sentences that answer a question best, or an abstention where the confidence is under the threshold.

    ``said`` is a follow-up question as it was said, where ``question`` holds terms of an earlier turn too: those tell
    what it is about, but neither what kind of answer it wants nor whether it is answered.
    """
    asked = asked_words(question, result)
    kind = answer_type(said or question)
    # Some milliseconds of words: the event loop serves others meanwhile.
    candidates = await asyncio.to_thread(collect, question, result.hits[:HITS_MAX], asked, kind)
    if not candidates:
        return Extract((), 0.0, True)
    short = preranked(candidates)
    vectors = await _vectors(question, short, embed)
    for candidate, cosine in zip(short, _cosines(short, vectors), strict=True):
        candidate.cosine = cosine
        candidate.score = relevance(candidate)
    chosen = choose(short, vectors[1:], min(sentences_max, SENTENCES_MAX))
    judged = sorted(chosen, key=without_opening, reverse=True)
    signals = await asyncio.to_thread(signals_of, question, result, judged, asked, kind, said)
    sure = confidence(signals)
    limit = THRESHOLD if threshold is None else threshold
    if sure < limit:
        return Extract((), sure, True, signals, not vectors.shape[1])
    given_up = {hit.document_id for hit in result.hits if _OUT_OF_FORCE.search(hit.text)}
    return Extract(tuple(in_reading_order(chosen, given_up)), sure, False, signals, not vectors.shape[1])


async def _vectors(question: str, candidates: Sequence[Candidate], embed: Embed) -> NDArray[np.float32]:
    """One row for the question and one for each candidate; no columns when the embedder is away."""
    try:
        rows = await embed([question, *(embed_text(candidate) for candidate in candidates)])
    except Unavailable:
        return np.zeros((len(candidates) + 1, 0), dtype=np.float32)
    return np.asarray(rows, dtype=np.float32)


def _cosines(candidates: Sequence[Candidate], vectors: NDArray[np.float32]) -> list[float]:
    if vectors.shape[1]:
        return [float(value) for value in vectors[1:] @ vectors[0]]
    return [COSINE_BY_WORDS * (candidate.own + candidate.above) for candidate in candidates]


@dataclass(frozen=True, slots=True)
class AskedWords:
    """The question's words: the idf of each by its name, and the name of each of its terms."""

    weights: Mapping[str, float]
    names: Mapping[str, str]
    total: float

    def of(self, text: str, language: str) -> set[str]:
        """The names of those that a text holds."""
        return {self.names[term] for term in word_terms(text, language) if term in self.names}

    def relative_weight(self, word: str) -> float:
        """The weight of a word of the question beside that of its rarest one; 1 for a word that was not searched."""
        names = {self.names.get(term) for term in word_terms(word)} - {None}
        most = max(self.weights.values(), default=0.0)
        return max((self.weights[name] for name in names if name), default=most) / (most or 1.0)

    def share(self, words: Iterable[str]) -> float:
        """The part of all their weight that some words have."""
        return sum(self.weights[word] for word in words) / self.total


def asked_words(question: str, result: SearchResult) -> AskedWords:
    """The question's words as they were searched; all weigh the same when they could not be."""
    weights = result.term_weights or {word.terms[0]: 1.0 for word in query_words(question)}
    names = {name: name for name in weights} | dict(result.term_names)
    return AskedWords(weights, names, sum(weights.values()) or 1.0)


def collect(question: str, hits: Sequence[Hit], asked: AskedWords, kind: AnswerType) -> list[Candidate]:
    """Every quotable unit of the hits with what words alone tell about it; one that occurs twice only once.

    Of a question that names one thing (``CVE-2020-7711``), only passages that hold its name are looked at.
    """
    identifiers = query_identifiers(question)
    best = max((hit.score for hit in hits), default=0.0) or 1.0
    found: list[Candidate] = []
    seen: set[str] = set()
    for rank, hit in enumerate(hits):
        language = detect_language(hit.text[:LANGUAGE_CHARACTERS])
        headings = " ".join((hit.title, *hit.heading_path))
        if identifiers and not _names_one(f"{headings} {hit.text}", identifiers, language):
            continue
        parts = units(hit.text, (hit.title, *hit.heading_path))
        terms = [asked.of(hit.text[part.start : part.end], language) for part in parts]
        above = asked.of(headings, language)
        opened: Span | None = None
        for position, part in enumerate(parts):
            text = hit.text[part.start : part.end]
            above_part = _lead_text(hit, part)
            plain = _plain(f"{text} {_context(hit, part, above_part)}")
            if part.kind not in _QUOTABLE or plain in seen or not _says_something(text, part):
                continue
            seen.add(plain)
            is_first, opened = part.heading not in (None, opened), part.heading or opened
            around = above | asked.of(above_part, language)
            beside = {term for other in terms[max(0, position - 1) : position + 2] for term in other}
            own = terms[position]
            end = announced_end(parts, position) if part.kind == "intro" else part.end
            if part.kind == "row" and part.lead is not None:  # shown together
                own = own | asked.of(hit.text[slice(*part.lead)], language)
            found.append(
                Candidate(
                    hit,
                    rank,
                    part,
                    text,
                    end,
                    words=own | around,
                    own=asked.share(own),
                    above=asked.share(around - own),
                    near=asked.share(beside - own - around),
                    chunk=hit.score / best,
                    typed=float(holds(kind, text, question)),
                    poor=float(part.kind in _POOR and end == part.end),
                    named=float(_names_one(f"{headings} {above_part} {text}", identifiers, language)),
                    opens=float(is_first and _asks(hit, part, asked, language)),
                )
            )
    return found


def shown_with_lead(candidate: Candidate) -> str:
    """A candidate's text behind the line that its table or list begins with."""
    return f"{_lead_text(candidate.hit, candidate.unit)} {candidate.hit.text[candidate.unit.start : candidate.end]}"


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))


def _context(hit: Hit, part: Unit, above_part: str) -> str:
    """What a unit says little without: the table or list of a row or item. A sentence stands for itself."""
    if part.kind not in ("row", "item"):
        return ""
    return f"{above_part} {hit.heading_path[-1] if hit.heading_path else ''}"


def _names_one(text: str, identifiers: Collection[str], language: str) -> bool:
    """Whether a text holds one of the identifiers."""
    if not identifiers:
        return False
    terms = frozenset(word_terms(text, language))
    return any(holds_identifier(terms, identifier) for identifier in identifiers)


def _asks(hit: Hit, part: Unit, asked: AskedWords, language: str) -> bool:
    """Whether the heading right above a unit is nearly the question."""
    return part.heading is not None and asked.share(asked.of(hit.text[slice(*part.heading)], language)) >= OPENED_MIN


def _lead_text(hit: Hit, part: Unit) -> str:
    """The line that a unit's table or list begins with, and the heading above it."""
    return " ".join(hit.text[slice(*span)] for span in (part.lead, part.heading) if span is not None)


def _says_something(text: str, part: Unit) -> bool:
    if len(" ".join(text.split())) > UNIT_CHARACTERS_MAX:  # the cells of a table are often padded with blanks
        return False
    words = len(_WORD.findall(text))
    return words >= WORDS_MIN or (part.lead is not None and words > 0) or (words > 1 and part.kind == "row")


def by_words(candidate: Candidate) -> float:
    """The rank of a candidate before it has a vector."""
    cover = candidate.own + HEADING_SHARE * candidate.above + NEAR_SHARE * candidate.near
    told = 0.1 * candidate.typed + NAMED_SHARE * candidate.named + OPENING_SHARE * candidate.opens
    return cover + 0.5 * candidate.chunk + told


def preranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that are worth a vector, best by words first."""
    return sorted(candidates, key=lambda candidate: (-by_words(candidate), candidate.rank, candidate.unit.start))[
        :EMBEDDED_MAX
    ]


def embed_text(candidate: Candidate) -> str:
    """What is embedded for a candidate: its lead or nearest heading, then itself."""
    hit, part = candidate.hit, candidate.unit
    lead = part.lead or part.heading
    before = hit.text[slice(*lead)] if lead is not None else (hit.heading_path[-1] if hit.heading_path else "")
    return " ".join(f"{before.lstrip('# ')} {candidate.text}".split())[:EMBEDDED_CHARACTERS_MAX]


def relevance(candidate: Candidate) -> float:
    """How well a candidate answers, by all that is known of it; the weights are rounded from ``bench/qa``'s fits."""
    cover = candidate.own + HEADING_SHARE * candidate.above + NEAR_SHARE * candidate.near
    place = candidate.chunk + 1.0 / (1 + candidate.rank)
    kind = 0.15 * candidate.typed - 0.06 * candidate.poor + NAMED_SHARE * candidate.named
    return 0.5 * candidate.cosine + 0.5 * cover + 0.1 * place + kind + OPENING_SHARE * candidate.opens


def without_opening(candidate: Candidate) -> float:
    """The score by what a candidate itself says: what tells whether the question is answered at all."""
    return candidate.score - OPENING_SHARE * candidate.opens


def choose(candidates: Sequence[Candidate], vectors: NDArray[np.float32], count: int) -> list[Candidate]:
    """The best by maximal marginal relevance, best first; near repeats of a chosen one never.

    What another document than the best one's says must be nearly as good, unless it brings a word of the question that
    the chosen ones lack: that is how answers out of two documents differ from a stray sentence beside a whole answer.
    """
    scores = np.array([candidate.score for candidate in candidates])
    similarity = vectors @ vectors.T
    nearest = np.zeros(len(candidates))
    is_open = np.ones(len(candidates), dtype=bool)
    chosen: list[int] = []
    held: set[str] = set()
    while len(chosen) < count and is_open.any():
        worth = np.where(is_open, MMR_RELEVANCE * scores - (1 - MMR_RELEVANCE) * nearest, -np.inf)
        pick = int(worth.argmax())
        is_open[pick] = False
        if chosen:
            is_elsewhere = candidates[pick].hit.document_id != candidates[chosen[0]].hit.document_id
            share = ELSEWHERE_SHARE_MIN if is_elsewhere and held.issuperset(candidates[pick].words) else SCORE_SHARE_MIN
            if nearest[pick] >= REPEAT_SIMILARITY_MIN or scores[pick] < share * scores.max():
                continue
        chosen.append(pick)
        held.update(candidates[pick].words)
        nearest = np.maximum(nearest, similarity[pick])
    return [candidates[pick] for pick in chosen]


def in_reading_order(chosen: Sequence[Candidate], given_up: Collection[str] = ()) -> list[ExtractedSentence]:
    """Documents by their best sentence, within one its sections by theirs, and within a section from top to bottom.

    A long document speaks of many things, and what answers best need not stand on its first page. Last come documents
    that are ``given_up``: that say of themselves that they are superseded, withdrawn or the like.
    """
    order: dict[str, int] = {}
    within: dict[tuple[str, tuple[str, ...]], int] = {}
    for candidate in sorted(chosen, key=lambda item: item.hit.document_id in given_up):
        order.setdefault(candidate.hit.document_id, len(order))
        within.setdefault(_section(candidate.hit), len(within))
    whole = [item for item in chosen if not any(other.holds(item) for other in chosen)]
    ordered = sorted(
        whole,
        key=lambda item: (
            order[item.hit.document_id],
            within[_section(item.hit)],
            item.hit.start + item.unit.start,
            item.rank,
        ),
    )
    return [ExtractedSentence(item.hit, item.unit.start, item.end, item.score, item.unit.lead) for item in ordered]


def _section(hit: Hit) -> tuple[str, tuple[str, ...]]:
    return hit.document_id, hit.heading_path


def signals_of(
    question: str,
    result: SearchResult,
    chosen: Sequence[Candidate],
    asked: AskedWords,
    kind: AnswerType,
    said: str | None = None,
) -> Signals:
    """What tells whether the chosen sentences answer; ``said`` as in `extract`."""
    hits = result.hits[:HITS_MAX]
    top = chosen[0]
    weights = asked.weights
    language = detect_language(top.hit.text[:LANGUAGE_CHARACTERS])
    around = " ".join((top.hit.title, *top.hit.heading_path, top.hit.text))
    passage = asked.of(around, language)
    cosines = sorted((hit.vector_score for hit in hits if hit.vector_score is not None), reverse=True)
    words = [hit.lexical_score or 0.0 for hit in hits]
    quoted = {candidate.hit.document_id for candidate in chosen}
    around_quoted = "\n".join(
        text for hit in hits if hit.document_id in quoted for text in (hit.title, *hit.heading_path, hit.text)
    )
    shown = [shown_with_lead(candidate) for candidate in chosen]
    found = mismatch(question, kind, shown, around_quoted, language, asked.relative_weight)
    is_off_topic = said is not None and kind == "other" and _says_none_of(around_quoted, said, asked, language)
    return Signals(
        sentence_cosine=top.cosine,
        sentence_cover=min(1.0, top.own + HEADING_SHARE * top.above),
        passage_cover=asked.share(passage),
        chunk_cosine=cosines[0] if cosines else top.cosine,
        lexical_share=min(1.0, max(words) / (BM25_WEIGHT_MAX * asked.total)) if result.term_weights else top.own,
        legs_agree=float(bool(words) and int(np.argmax(words)) == 0 and top.rank == 0),
        type_present=0.5 if kind == "other" else max(candidate.typed for candidate in chosen),
        rare_missing=max((weights[term] for term in weights if term not in passage), default=0.0)
        / max(weights.values(), default=1.0),
        number_missing=found.number_missing,
        name_missing=max(found.name_missing, float(is_off_topic)),
        opposite_said=found.opposite_said,
        negation_missing=found.negation_missing,
        value_missing=found.value_missing,
    )


def _says_none_of(text: str, said: str, asked: AskedWords, language: str) -> bool:
    """Whether a text has not one of the content words of what was said: then only the earlier turn's were found."""
    own = {asked.names[term] for term in word_terms(said) if term in asked.names}
    return bool(own) and not own & asked.of(text, language)
