"""One answer of a model as it is released: whole sentences, citations renumbered, each claim checked.

It is fed sentences and gives events; it knows no model and no stream. The copilot drives it. The invariants: no marker
leaves it that names no shown passage, and ``text`` is exactly what the deltas said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from roadbed.apps.citing import Citer, Evidence, evidence_of
from roadbed.apps.grounding import Verdict, best_support, check_sentence
from roadbed.apps.prompting import NOT_FOUND
from roadbed.apps.types import AnswerEvent, Cited, Delta
from roadbed.gateway.types import FinishReason

ABSTENTION = "This is not in the documents that I can see."
_NOT_FOUND = re.compile(rf"[*_`\"']*\b{NOT_FOUND.replace('_', '[ _]')}\b[*_`\"']*\.?")
_DECLINES = re.compile(
    r"\b(?:(?:could|can|did|do|does|is|are|was|were)(?: not|n['’]t)|cannot|no)\b.{0,60}"
    r"\b(?:documents?|passages?|sources?|context|information)\b"
    r"|\b(?:documents?|passages?|sources?|context)\b.{0,40}\b(?:not|n['’]t|no|nothing)\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(slots=True)
class CheckedAnswer:
    """What has been said so far. ``unsupported`` are the spans of ``text`` that no passage or row bears out.

    ``plain`` makes words of what may not be a link.
    """

    hits: Sequence[Evidence]
    plain: Callable[[str], str] = str
    text: str = ""
    sentences: int = 0
    supported: int = 0
    abstained: bool = False
    finish_reason: FinishReason = "stop"
    unsupported: list[tuple[int, int]] = field(default_factory=list)
    citer: Citer = field(init=False)
    _evidence: list[str] = field(init=False)
    _is_declined: bool = False

    def __post_init__(self) -> None:
        self.citer = Citer(self.hits)
        self._evidence = [evidence_of(hit) for hit in self.hits]

    def add_evidence(self, more: Sequence[Evidence]) -> None:
        """More that sentences may rest on, numbered behind what there is. Before the first sentence alone."""
        self.hits = self.citer.hits = [*self.hits, *more]
        self._evidence += [evidence_of(hit) for hit in more]

    def evidence(self) -> Sequence[str]:
        """The texts that sentences are checked by."""
        return self._evidence

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said yet."""
        return not self.text.strip()

    def release(self, sentence: str) -> list[AnswerEvent]:
        """The events of one whole sentence with the blanks behind it; citations come before the text that needs them.

        After the model said that nothing was found, and nothing before that, whatever it adds is left out.
        """
        if self.abstained or not sentence:
            return []
        sentence = self.plain(sentence)
        bare, count = _NOT_FOUND.subn("", sentence)
        if count:
            self._is_declined = True
            if self.is_empty:
                self.abstained = True
                return self._say(ABSTENTION)
            sentence = bare
        if not sentence.strip():
            return [] if self.is_empty else self._say(sentence)
        self._is_declined |= _DECLINES.search(sentence) is not None
        text, cited, fresh = self.citer.rewrite(sentence)
        verdict = check_sentence(text, [self._evidence[place] for place in cited])
        if verdict is Verdict.UNSUPPORTED:
            place = best_support(text, self._evidence)
            if place is not None and place not in cited:
                number, citation = self.citer.number_of(place, text)
                fresh += [citation] if citation is not None else []
                body = text.rstrip()
                text = f"{body} [{number}]{text[len(body) :]}"
                verdict = Verdict.SUPPORTED
        self._count(verdict, text)
        return [*(Cited(citation) for citation in fresh), *self._say(text)]

    def finish(self) -> list[AnswerEvent]:
        """What is left to say at the end: that nothing was found, when the model said so and bore nothing out."""
        if self._is_declined and not self.abstained and not self.supported:
            self.abstained = True
            if _DECLINES.search(self.text) is None:
                return self._say(ABSTENTION if self.is_empty else f" {ABSTENTION}")
        return []

    def note(self, text: str) -> list[AnswerEvent]:
        """Words of our own at the end, which claim nothing that could be checked."""
        return self._say(f"\n\n{text}" if self.text.strip() else text) if text else []

    def _count(self, verdict: Verdict, text: str) -> None:
        if verdict is Verdict.EXEMPT:
            return
        self.sentences += 1
        if verdict is Verdict.UNSUPPORTED:
            start = len(self.text) + len(text) - len(text.lstrip())
            self.unsupported.append((start, start + len(text.strip())))
        else:
            self.supported += 1

    def _say(self, text: str) -> list[AnswerEvent]:
        self.text += text
        return [Delta(text)] if text else []
