"""`Detector`: finds personal data and secrets in a text. Pure, thread-safe, and sure of its offsets.

One pass of an engine tells where to look (`guard.patterns`); the readers read each place exactly, validate it and turn
it into findings with offsets into the text as given, whatever was folded or decoded on the way. It decides nothing
about what is done with a finding: `guard.gate` does. The invariant: the findings do not depend on the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from roadbed.guard import numbering_plans, patterns, readers, secret_forms, secret_readers, word_values
from roadbed.guard.custom import CustomTerms
from roadbed.guard.decode import neighbourhoods
from roadbed.guard.digit_runs import Run, card_in, numbers_in, run_at
from roadbed.guard.engine import Engine, make_engine
from roadbed.guard.finding import ADDRESS, CARD, PERSON, Finding, merge_overlaps
from roadbed.guard.fold import fold
from roadbed.guard.letter_ids import FIRST_ID, LETTER_RULES, letter_ids_in
from roadbed.guard.names_places import REACH_CHARACTERS, addresses_in, names_in
from roadbed.guard.phones import phones_in
from roadbed.guard.secret_rules import PREFIXES

DEFAULT_PHONE_REGIONS: Final = ("US", "GB", "DE", "NO")
OPTIONAL_TYPES: Final = frozenset({ADDRESS, PERSON})


class Looking(NamedTuple):
    """What a detector looks for. ``off`` are types or rules; ``optional`` the types that are off by default."""

    phone_regions: tuple[str, ...] = DEFAULT_PHONE_REGIONS
    off: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    is_strict: bool = False
    custom: CustomTerms | None = None

    @property
    def reach_characters(self) -> int:
        """How far before its end a value may begin that no rule of the streaming form knows of."""
        custom = self.custom.reach_characters if self.custom is not None else 0
        return max(custom, REACH_CHARACTERS if self.optional else 0)


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
        looking: Looking | None = None,
    ) -> None:
        self._engine = engine if engine is not None else make_engine(cache_folder)
        self._looking = looking if looking is not None else Looking(tuple(phone_regions))
        self._looks_for_cards = self._looking.off.isdisjoint({CARD, "card"})
        self._is_plain = not (self._looking.optional or self._looking.custom)

    @property
    def engine_name(self) -> str:
        """``hyperscan`` or ``re``, for `roadbed doctor`."""
        return self._engine.name

    @property
    def looking(self) -> Looking:
        """What it looks for."""
        return self._looking

    def with_looking(self, looking: Looking) -> Detector:
        """A detector that looks for something else; shares the compiled patterns."""
        return Detector(engine=self._engine, looking=looking)

    def warm_up(self) -> None:
        """Load what is loaded on first need, so that no request waits for it."""
        numbering_plans.warm_up()
        self.find("warm@example.com, tel. 212-736-5000, naïve")

    def find(self, text: str) -> list[Finding]:
        """Disjoint findings in order; overlapping ones are merged."""
        found = self.candidates(text)
        return merge_overlaps(found) if len(found) > 1 else found

    def secrets(self, text: str) -> list[Finding]:
        """The secrets among the `candidates`, at a fraction of the cost where there are none."""
        if not text.isascii():
            return [finding for finding in self.candidates(text) if finding.is_secret]
        hits = [hit for hit in self._engine.hits(text) if hit[0] in _SECRETS_AT or hit[0] >= patterns.FIRST_PREFIX]
        if not hits:
            return []
        return [finding for finding in self._without_off(self._read_all(text, hits)) if finding.is_secret]

    def candidates(self, text: str) -> list[Finding]:
        """Every finding before merging, in no order; offsets into ``text``."""
        if text.isascii():
            hits = self._engine.hits(text)
            if not hits and self._is_plain:
                return []
            return self._without_off(self._read_all(text, hits))
        view = fold(text)
        hits = self._engine.hits(view.text)
        if not hits and self._is_plain:
            return []
        found = self._without_off(self._read_all(view.text, hits))
        if view.text is text:
            return found
        return [
            finding._replace(start=start, end=end)
            for finding in found
            for start, end in (view.source_span(finding.start, finding.end),)
        ]

    def _without_off(self, found: list[Finding]) -> list[Finding]:
        off = self._looking.off
        return [f for f in found if f.type not in off and f.rule not in off] if off and found else found

    def _read_all(self, view: str, hits: list[tuple[int, int]]) -> list[Finding]:
        """Read a view and what is encoded in it."""
        escapes: list[int] = []
        bases: list[int] = []
        found = self._read(view, hits, escapes, bases)
        if not escapes and not bases:
            return found
        for decoded in neighbourhoods(view, escapes, bases):
            for finding in self._read(decoded.text, self._engine.hits(decoded.text), [], []):
                span = decoded.source_span(finding.start, finding.end)
                if span is not None:
                    found.append(finding._replace(start=span[0], end=span[1]))
        return found

    def _read(self, view: str, hits: list[tuple[int, int]], escapes: list[int], bases: list[int]) -> list[Finding]:
        """Read the places that the triggers point at; each place once. Notes where something is encoded."""
        found: list[Finding] = []
        reader_of = _READERS.get
        digits: list[int] = []
        signs: list[int] = []
        # By reader, and each reader's work in steps: a processor does the same again in half the time.
        for number, end in sorted(set(hits)):
            reader = reader_of(number)
            if reader is not None:
                found += reader(view, end)
            elif number == _DIGITS:
                digits.append(end)
                if view[end - 1] in readers.SEXES:
                    found += readers.passport_line(view, end)
            elif number == _CONTEXT:
                signs.append(end)
            elif number == _BASE64:
                bases.append(end)
            elif number == _ESCAPE:
                escapes.append(end)
        if signs:  # first, as what they say of a value comes first in the text
            found[:0] = secret_readers.assigned_secrets(view, signs)
        if digits:
            self._read_runs(view, digits, found)
        if not self._is_plain:
            self._read_further(view, found)
        return found

    def _read_runs(self, view: str, ends: list[int], found: list[Finding]) -> None:
        """Read the runs of digits that end at the ascending ``ends`` or shortly before."""
        looking = self._looking
        read: list[Run] = []
        done = 0
        for end in ends:
            if end <= done:
                continue
            run = run_at(view, end, done)
            if run is not None:
                done = run.end
                read.append(run)
        runs: list[Run] = []
        for run in read:
            card = card_in(view, run) if run.plan.card is not None and self._looks_for_cards else None
            if card is None:
                runs.append(run)
            else:
                found.append(card)
        others: list[Run] = []
        for run in runs:
            numbers = numbers_in(view, run, is_strict=looking.is_strict) if run.plan.candidates else ()
            found += numbers
            if not numbers or not _is_card(run, numbers):
                others.append(run)
        regions = looking.phone_regions
        for run in others:
            found += phones_in(view, run, regions)

    def _read_further(self, view: str, found: list[Finding]) -> None:
        """What the manifest adds."""
        looking = self._looking
        if looking.custom is not None:
            found += looking.custom.findings_in(view)
        if PERSON in looking.optional:
            found += names_in(view)
        if ADDRESS in looking.optional:
            found += addresses_in(view)


def _is_card(run: Run, numbers: Iterable[Finding]) -> bool:
    """Whether the whole run is a card."""
    return any(kind == CARD and start == run.start and end == run.end for kind, start, end, *_ in numbers)


_DIGITS, _CONTEXT = patterns.DIGITS, patterns.CONTEXT
_BASE64, _ESCAPE = patterns.BASE64, patterns.ESCAPE
_READERS: Final[dict[int, Callable[[str, int], Iterable[Finding]]]] = {
    patterns.AT: readers.email,
    patterns.IBAN_HEAD: readers.iban,
    patterns.DOTTED: readers.ip_v4,
    patterns.COLONS: readers.ip_v6,
    patterns.STRUCTURED: secret_readers.structured_secret,
    patterns.SERVICE: secret_readers.service_secret,
    patterns.PEM: secret_readers.private_key,
    patterns.BEARER: secret_readers.bearer,
    patterns.USER_OPTION: secret_readers.user_option,
    patterns.FORM_IDS["said"]: secret_forms.said_password,
    patterns.FORM_IDS["option"]: secret_forms.option_value,
    patterns.FORM_IDS["stated"]: secret_forms.stated_value,
    patterns.FORM_IDS["called"]: secret_forms.called_value,
    patterns.FORM_IDS["paired"]: secret_forms.paired_value,
    patterns.FORM_IDS["queried"]: secret_forms.queried_value,
    patterns.FORM_IDS["commanded"]: secret_forms.commanded_value,
    patterns.FORM_IDS["jwk"]: secret_forms.private_jwk,
    patterns.FORM_IDS["coded_user"]: secret_forms.coded_user,
    patterns.FORM_IDS["cookie"]: secret_forms.session_cookie,
    patterns.FORM_IDS["kubernetes"]: secret_forms.kubernetes_secret,
    patterns.FORM_IDS["putty"]: secret_forms.putty_key,
    patterns.WORD_VALUE_IDS["born"]: word_values.birth_date,
    patterns.WORD_VALUE_IDS["plate"]: word_values.plate,
    patterns.WORD_VALUE_IDS["passport"]: word_values.passport,
    patterns.WORD_VALUE_IDS["licence"]: word_values.driving_licence,
}
assert max(_READERS) < FIRST_ID  # ids stay apart
_READERS.update(
    {FIRST_ID + index: partial(letter_ids_in, index) for index in range(len(LETTER_RULES))}
    | {patterns.FIRST_PREFIX + index: partial(secret_readers.prefixed_secret, index) for index in range(len(PREFIXES))}
)
assert FIRST_ID + len(LETTER_RULES) <= patterns.FIRST_PREFIX
_SECRETS_AT: Final = frozenset(
    {
        patterns.AT, patterns.CONTEXT, patterns.STRUCTURED, patterns.SERVICE, patterns.PEM,
        patterns.BEARER, patterns.USER_OPTION, patterns.ESCAPE, patterns.BASE64, *patterns.FORM_IDS.values(),
    }
)  # fmt: skip
"""The triggers that may lead to a secret: of an address it may be the password, and what is encoded may be any."""
