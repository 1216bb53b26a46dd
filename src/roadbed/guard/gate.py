"""`Guard`: the one gate through which text passes to a model, an embedder, an index, a log or a record.

Only this room makes `Guarded`. Defaults: secrets are replaced everywhere; personal data stays in the index and goes to
local models under the label ``personal``; remote models get reversible tokens; records and logs get placeholders.
The gate keeps nothing and knows no request. The invariant: what is returned contains no finding that its sink may not
see, and guarding a guarded text again changes nothing.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from roadbed.guard.detect import Detector
from roadbed.guard.erased import NOTHING_ERASED, ErasedValues
from roadbed.guard.finding import CUSTOM, SECRET, Finding, merge_overlaps
from roadbed.guard.looking import allowed_values, looking_for
from roadbed.guard.manifest import GuardConfig, TeamConfig
from roadbed.guard.mask import OffsetMap, Replacer, mask_text, mask_text_with_map, placeholder
from roadbed.guard.policy import RegionCrossing
from roadbed.guard.recognizer import RecognizerMissing, check_answers, load_recognizer
from roadbed.guard.rules import (
    MODELS,
    Direction,
    Do,
    GuardBlocked,
    RuleHit,
    RuleTable,
    SinkName,
    Told,
    blocked,
    tell_nobody,
)
from roadbed.guard.secret_stream import SecretStream
from roadbed.guard.stream_mask import WORD_CHARACTERS_MAX, StreamMasker
from roadbed.guard.untrusted import LinkFilter
from roadbed.guard.vault import StreamUnmasker, Vault
from roadbed.guard.windows import WINDOW_CHARACTERS, candidates_of_long
from roadbed.kernel.guarded import Guarded, make_guarded
from roadbed.kernel.label import LOCAL_ONLY, PERSONAL, PUBLIC, Label
from roadbed.kernel.principal import Principal

_NOTHING: Final[frozenset[str]] = frozenset()
MASKS_PERSONAL: Final = frozenset({"remote_model", "remote_embedder", "record", "log", "export"})
"""Sinks that get no personal value by default: the label ``personal`` ends there, unless a rule lets one through."""

REDACTED: Final = "[REDACTED]"
WITHHELD: Final = "[WITHHELD]"
"""What a record holds in place of a text whose label keeps it from records."""

_ANSWERS_WAY: Final[Mapping[bool | None, tuple[tuple[SinkName, Direction], ...]]] = {
    True: (("local_model", "in"), ("caller", "out")),
    False: (("remote_model", "in"), ("caller", "out")),
    None: (("remote_model", "in"), ("local_model", "in"), ("caller", "out")),
}
"""What an answer passes, by whether its model is a local one; both ways where nobody knows."""
_CALLERS_WAY: Final[tuple[tuple[SinkName, Direction], ...]] = (("caller", "in"), ("remote_model", "out"))
_PAIR = "\ud800"  # stands for two backslashes: half a surrogate pair comes neither in UTF-8 nor of escapes
_UNICODE_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")


class AnswerPasser:
    """One text of an answer on its way to the caller: the rules, then its links. Either may be missing.

    ``feed`` gives what can be said now that a piece came; it is the rules' own where there is nothing else to do.
    """

    __slots__ = ("_links", "_masker", "feed")

    def __init__(self, masker: StreamMasker | None, links: LinkFilter | None) -> None:
        self._masker = masker
        self._links = links
        self.feed: Callable[[str], str] = self._feed if masker is None or links is not None else masker.feed

    def _feed(self, piece: str) -> str:
        text = self._masker.feed(piece) if self._masker is not None else piece
        return self._links.feed(text) if self._links is not None else text

    def finish(self) -> str:
        """The rest."""
        text = self._masker.finish() if self._masker is not None else ""
        return self._links.feed(text) + self._links.finish() if self._links is not None else text


class Guard:
    """The detectors with a workspace's settings. Immutable: a changed manifest makes a new one by `with_config`."""

    def __init__(
        self,
        detector: Detector,
        config: GuardConfig | None = None,
        teams: Mapping[str, TeamConfig] | None = None,
        *,
        folder: Path | None = None,
        erased: ErasedValues = NOTHING_ERASED,
    ) -> None:
        """``folder`` holds the dictionaries' files. `ConfigError` for a setting that is not taken."""
        config = config if config is not None else GuardConfig()
        self._detector = detector.with_looking(looking_for(config, folder))
        self._allowed = frozenset(config.allow)
        self._erased = erased
        self._allowed_values = allowed_values(config)
        self._recognizer = load_recognizer(config.recognizer) if config.recognizer is not None else None
        self.rules = RuleTable(config.rules)
        if config.recognizer is not None:
            check_answers(config.recognizer, self.rules.of_recognizer_in_answers)
        self._told: Told = tell_nobody
        self._regions = {name: team.region for name, team in (teams or {}).items() if team.region}
        self._links = tuple(config.links) if config.links is not None else None
        self._teams_without_values = frozenset(name for name, team in (teams or {}).items() if not team.unmask)

    @classmethod
    def open(
        cls,
        cache_folder: Path | None = None,
        config: GuardConfig | None = None,
        teams: Mapping[str, TeamConfig] | None = None,
        *,
        folder: Path | None = None,
    ) -> Guard:
        """A guard with a detector of its own, whose compiled patterns are kept in ``cache_folder``."""
        return cls(Detector(cache_folder), config, teams, folder=folder)

    def with_config(self, config: GuardConfig, teams: Mapping[str, TeamConfig], *, folder: Path | None = None) -> Guard:
        """The guard of a changed manifest; shares the compiled patterns."""
        made = Guard(self._detector, config, teams, folder=folder, erased=self._erased)
        made._told = self._told
        return made

    def with_observer(self, told: Told) -> Guard:
        """The same guard, which tells of each of the manifest's rules that applied; from any thread."""
        found = copy.copy(self)
        found._told = told
        return found

    def with_erased(self, erased: ErasedValues) -> Guard:
        """The same guard, which replaces these values wherever a text is to be indexed."""
        found = copy.copy(self)
        found._erased = erased
        return found

    @property
    def engine_name(self) -> str:
        """``hyperscan`` or ``re``, for `roadbed doctor`."""
        return self._detector.engine_name

    def warm_up(self) -> None:
        """Load everything that is loaded on first need."""
        self._detector.warm_up()

    # -- looking ------------------------------------------------------------------------------------------------------

    def scan(self, text: str) -> list[Finding]:
        """Disjoint findings in order, without those that the manifest allows."""
        return self.scan_with_missing(text)[0] if self._recognizer is not None else self._scan(text)

    def scan_with_missing(self, text: str) -> tuple[list[Finding], list[str]]:
        """As `scan`, with the names of recognizers that did not answer."""
        found, missing = self._allowed_out(text), []
        if self._recognizer is not None:
            more = self._recognizer.find(text)
            if more is None:
                missing.append(self._recognizer.name)
            else:
                found = [*found, *self._without_allowed(text, more)]
        return merge_overlaps(found), missing

    def _scan_to_leave(self, text: str) -> list[Finding]:
        """`scan` of a text that leaves the house. Raises `RecognizerMissing` where a required one did not answer."""
        found, missing = self.scan_with_missing(text)
        if missing and self._recognizer is not None and self._recognizer.is_required:
            raise RecognizerMissing(f"the recognizer {missing[0]} did not answer")
        return found

    def _scan_to_keep(self, text: str) -> list[Finding]:
        """`scan` of a text that is recorded: one that a required recognizer did not read is a secret as a whole."""
        found, missing = self.scan_with_missing(text)
        if text and missing and self._recognizer is not None and self._recognizer.is_required:
            return [Finding(SECRET, 0, len(text), "unread", 1.0, True)]
        return found

    def _scan(self, text: str) -> list[Finding]:
        found = self._allowed_out(text)
        return merge_overlaps(found) if found else found

    def scan_bytes(self, body: bytes) -> frozenset[str]:
        """The types of what a JSON body holds anywhere; empty when the body may be forwarded byte for byte.

        Escapes are undone for the search, so that ``\\u0040`` hides nothing. Keys and numbers count as text too. For a
        body with findings the caller decodes the leaves and guards each one. `ValueError` when it is not UTF-8.
        """
        text = body.decode()
        return self._types_in(_without_escapes(text) if "\\" in text else text)

    def scan_sent(self, texts: str | bytes) -> frozenset[str]:
        """`scan_bytes` of a JSON body, or of the text that it makes of a body whose escapes are undone already."""
        return self._types_in(texts) if isinstance(texts, str) else self.scan_bytes(texts)

    def _types_in(self, text: str) -> frozenset[str]:
        found = self._allowed_out(text)
        types = frozenset(finding.type for finding in found) if found else _NOTHING
        # What a recognizer would find is seen when the leaves are guarded one by one.
        return types if self._recognizer is None else types | {CUSTOM}

    # -- sinks --------------------------------------------------------------------------------------------------------

    def for_index(self, text: str, label: Label) -> Guarded:
        """Text to be stored and indexed: secrets replaced, personal data kept and labelled."""
        return self._guarded(text, self._with_erased(text), label, "index", "index")

    def for_index_with_map(self, text: str, label: Label) -> tuple[Guarded, OffsetMap]:
        """As `for_index`, with the map to offsets in ``text``, for whoever knows pages or headings by those."""
        found = self._with_erased(text)
        masked, replace = self._decided(text, found, label, "index")
        done, offsets = mask_text_with_map(text, masked, replace)
        kept = _labelled(label, found, masked)
        self.check_label(kept, "index")
        return make_guarded(done, kept, sink="index", masked_count=len(masked)), offsets

    def for_embedder(self, text: str, label: Label, *, is_local: bool) -> Guarded:
        """Text to be turned into a vector: as `for_index` for a local embedder, else with placeholders throughout."""
        if is_local:
            return self._guarded(text, self._with_erased(text), label, "embedder", "embedder")
        return self._guarded(text, self._scan_to_leave(text), label, "remote_embedder", "embedder")

    def for_model(self, text: str, label: Label, *, is_local: bool, vault: Vault, team: str = "") -> Guarded:
        """Text for a model: secrets replaced; for a model elsewhere, personal data as tokens of ``vault``.

        Raises `GuardBlocked` where a rule forbids it.
        """
        if is_local:
            return self._guarded(text, self._with_erased(text), label, "local_model", "model", team, vault)
        return self._guarded(text, self._scan_to_leave(text), label, "remote_model", "remote model", team, vault)

    def label_of(self, text: str, label: Label = PUBLIC, *, team: str = "") -> Label:
        """The label of a caller's text on its way to models, by what it holds. Raises `GuardBlocked`.

        ``local-only`` where a rule keeps a finding on local models.
        """
        found = self._with_erased(text)
        for finding in found:
            if not finding.is_secret and finding.is_personal:
                label = label.with_category(PERSONAL)
            for sink, direction in _CALLERS_WAY:
                decision = self.rules.decide(finding, label, sink, direction, team)
                if decision.do == "route_local":
                    self._note(finding, sink, "out", team, label)
                    label = label.with_category(LOCAL_ONLY)
                elif sink == "caller" and decision.do == "block":
                    self._note(finding, sink, "in", team, label)
                    raise blocked(decision, finding, sink)
        return label

    def label_for_models(self, label: Label, team: str) -> Label:
        """See `RuleTable.label_for_models`. What a model makes of data has its label, and the caller's rules too."""
        if not self.judges_labels:
            return label
        self.check_label(label, "caller", team)
        return self.rules.label_for_models(label, team, self._told)

    @property
    def judges_labels(self) -> bool:
        """Whether rules by label alone, or teams' regions, may keep data with a label from anywhere."""
        return self.rules.judges_labels or bool(self._regions)

    def lets(self, label: Label, sink: SinkName, team: str = "") -> bool:
        """Whether the rules by label alone let such data to a sink where what they forbid is left out in silence."""
        return not self.rules.judges_labels or not self.rules.blocks_label(label, sink, "out", team, self._told)

    def check_label(self, label: Label, sink: SinkName, team: str = "", *, direction: Direction = "out") -> None:
        """Raises `GuardBlocked` where a rule by label alone keeps such data from a sink, or from coming out of it, and
        `RegionCrossing` where it must stay in a region that the caller's team is not in.
        """
        region = self._regions.get(team) if sink == "caller" else None
        if region and label.regions is not None and region not in label.regions:
            allowed = " or ".join(sorted(label.regions)) or "no region at all"
            raise RegionCrossing(f"the answer must stay in {allowed}, and the team {team} is in {region}")
        if not self.rules.judges_labels:
            return
        rule = self.rules.blocks_label(label, sink, direction, team, self._told)
        if rule:
            words = "+".join(label.words())
            way = f"go to the sink {sink}" if direction == "out" else f"come from the sink {sink}"
            raise GuardBlocked(f"{rule} does not let data labelled {words} {way}")

    def for_record(self, text: str, label: Label = PUBLIC, *, characters_max: int | None = None) -> Guarded:
        """Text for traces, the spool and exports: typed placeholders such as ``[EMAIL]`` for every finding.

        With ``characters_max`` it is cut to that length after masking, so that no half of a value stands at the cut.
        """
        if characters_max is None or len(text) <= characters_max:
            return self._guarded(text, self._scan_to_keep(text), label, "record", "record")
        start = text[: characters_max + WORD_CHARACTERS_MAX]
        whole = self._guarded(start, self._scan_to_keep(start), label, "record", "record")
        return make_guarded(whole.text[:characters_max], whole.label, sink="record", masked_count=whole.masked_count)

    def for_record_of_clean(self, text: str) -> Guarded:
        """`for_record` for a text that is part of a body in which `scan_bytes` has just found nothing."""
        return make_guarded(text, PUBLIC, sink="record")

    def for_log(self, text: str) -> Guarded:
        """A short text for the log, as `for_record`; prompts and documents do not go to the log at all."""
        return self._guarded(text, self._scan_to_keep(text), PUBLIC, "log", "log")

    def for_name(self, text: str) -> str:
        """A name that a caller gave, for a record that names it: as `for_log`, by patterns alone and at once."""
        found = self._allowed_out(text) if text else []
        return mask_text(text, merge_overlaps(found)) if found else text

    def holds_secret(self, text: str) -> bool:
        """Whether a name that is to be stored and shown holds a secret."""
        return bool(self._secrets_out(text))

    def for_export(self, text: str, label: Label = PUBLIC) -> Guarded:
        """Text for a file or a system outside, as `for_record`."""
        return self._guarded(text, self._scan_to_leave(text), label, "export", "export")

    def for_tool(self, text: str, label: Label, *, is_sent: bool, team: str = "") -> Guarded:
        """A text of a tool's arguments (``is_sent``), or of its result or error. Raises `GuardBlocked`."""
        direction: Direction = "out" if is_sent else "in"
        found = self._with_erased(text, self._scan_to_leave(text) if is_sent else None)
        return self._guarded(text, found, label, "tool", "tool", team, direction=direction)

    def stream_for_record(self) -> StreamMasker:
        """`for_record` for a text that comes in pieces: placeholders for every finding."""
        return StreamMasker(self._allowed_out, reach=self._detector.looking.reach_characters)

    def stream_without_secrets(self) -> SecretStream:
        """A model's answer in pieces with secrets replaced and personal data kept: what callers get by default."""
        return SecretStream(self._secrets_out)

    def without_secrets(self, text: str) -> str:
        """`stream_without_secrets` for an answer that is whole."""
        found = self._secrets_out(text)
        return mask_text(text, merge_overlaps(found)) if found else text

    def answer_without_secrets(self, text: str) -> tuple[str, bool]:
        """`without_secrets`, and whether nothing at all was found: then `for_record_of_clean` takes the text."""
        if self._allowed_out(text):
            return self.without_secrets(text), False
        return text, self._recognizer is None

    @property
    def reads_answers(self) -> bool:
        """Whether the manifest says anything of what models answer, beyond that secrets are replaced or shown."""
        return self.rules.reads_answers or self._links is not None

    @property
    def hides_secrets(self) -> bool:
        """Whether secrets in answers are replaced: the default."""
        return self.rules.hides_secrets

    def stream_of_answer(
        self, team: str, label: Label, *, is_shown: bool = True, is_local: bool | None = None
    ) -> AnswerPasser:
        """A model's answer in pieces as the rules let it go to the caller; `GuardBlocked` where they do not.

        In a text that ``is_shown`` to people, pictures and links lead to the manifest's hosts alone. ``is_local`` says
        which models' rules are meant: where it is left out, both.
        """
        links = LinkFilter(self._links) if self._links is not None and is_shown else None
        if self.rules.reads_answers:
            return AnswerPasser(self._ruled_answer(team, label, is_local), links)
        return AnswerPasser(self.stream_without_secrets() if self.hides_secrets else None, links)

    def _ruled_answer(self, team: str, label: Label, is_local: bool | None) -> StreamMasker:

        def acted_on(text: str) -> list[Finding]:
            return [
                finding
                for finding in self._allowed_out(text)
                if self._answer_deed(finding, label, team, is_local) != "allow"
            ]

        def replace(finding: Finding, value: str) -> str:
            deed = self._answer_deed(finding, label, team, is_local, is_told=True)
            return REDACTED if deed == "redact" else placeholder(finding, value)

        return StreamMasker(acted_on, replace, reach=self._detector.looking.reach_characters)

    def _answer_deed(
        self, finding: Finding, label: Label, team: str, is_local: bool | None, *, is_told: bool = False
    ) -> Do:
        """What is done with a finding on its way from a model to the caller: neither way's rule may be missed.

        A model's own personal data passes by default: what it was sent was guarded before. A secret is replaced.
        """
        for sink, direction in _ANSWERS_WAY[is_local]:
            decision = self.rules.decide(finding, label, sink, direction, team)
            is_own = not decision.rule.startswith("default")
            if is_told and (is_own or decision.alerts):
                self._note(finding, sink, direction, team, label)
            if is_own and decision.do == "block" and is_told:
                raise blocked(decision, finding, sink)
            if (is_own or direction == "out") and decision.do != "allow":
                return decision.do
        return "allow"

    def region_of(self, team: str) -> str:
        """The region that a team's callers are in; empty when that was not said."""
        return self._regions.get(team, "")

    # -- the way back -------------------------------------------------------------------------------------------------

    def may_unmask(self, principal: Principal) -> bool:
        """Whether the caller's team gets its personal data back in answers."""
        return principal.team not in self._teams_without_values

    def for_caller(self, text: str, vault: Vault, principal: Principal) -> str:
        """A model's answer for the caller: tokens restored where permitted, never inside an address."""
        return vault.restore(text) if self.may_unmask(principal) else text

    def stream_for_caller(self, vault: Vault, principal: Principal) -> StreamUnmasker:
        """`for_caller` for an answer that comes in pieces."""
        return StreamUnmasker(vault, is_permitted=self.may_unmask(principal))

    # -- shared -------------------------------------------------------------------------------------------------------

    def _allowed_out(self, text: str) -> list[Finding]:
        """Every candidate that the manifest does not allow; may overlap."""
        if len(text) > WINDOW_CHARACTERS:
            return self._without_allowed(text, candidates_of_long(self._detector.candidates, text))
        found = self._detector.candidates(text)
        return self._without_allowed(text, found) if found else found

    def _secrets_out(self, text: str) -> list[Finding]:
        """Every secret that the manifest does not allow; may overlap."""
        if len(text) > WINDOW_CHARACTERS:
            return self._without_allowed(text, candidates_of_long(self._detector.secrets, text))
        found = self._detector.secrets(text)
        return self._without_allowed(text, found) if found else found

    def _without_allowed(self, text: str, found: list[Finding]) -> list[Finding]:
        if self._allowed:
            found = [finding for finding in found if text[finding.start : finding.end] not in self._allowed]
        pattern = self._allowed_values
        if pattern is not None:
            found = [finding for finding in found if not pattern.fullmatch(text, finding.start, finding.end)]
        return found

    def _with_erased(self, text: str, found: list[Finding] | None = None) -> list[Finding]:
        """What `scan` finds, or was ``found``, and the values that were erased at a person's request."""
        found, erased = self.scan(text) if found is None else found, self._erased.findings(text)
        return merge_overlaps([*found, *erased]) if erased else found

    def _guarded(
        self,
        text: str,
        found: list[Finding],
        label: Label,
        sink: SinkName,
        shown: str,
        team: str = "",
        vault: Vault | None = None,
        direction: Direction = "out",
    ) -> Guarded:
        """``text`` as the rules let it go to the sink. Raises `GuardBlocked`."""
        masked: list[Finding] = []
        kept = label.without_category(PERSONAL) if sink in MASKS_PERSONAL else label
        if found:
            masked, replace = self._decided(text, found, label, sink, team, vault, direction)
            kept, text = _labelled(kept, found, masked), mask_text(text, masked, replace)
        if sink == "record" and not self.lets(kept, sink, team):
            text = WITHHELD
        elif sink not in MODELS and sink != "record":  # `label_for_models` says which models may be asked
            self.check_label(kept, sink, team, direction=direction)
        return make_guarded(text, kept, sink=shown, masked_count=len(masked))

    def _decided(
        self,
        text: str,
        found: list[Finding],
        label: Label,
        sink: SinkName,
        team: str = "",
        vault: Vault | None = None,
        direction: Direction = "out",
    ) -> tuple[list[Finding], Replacer]:
        """What of the findings is replaced, and by what."""
        deeds: dict[int, Do] = {}
        for finding in found:
            decision = self.rules.decide(finding, label, sink, direction, team)
            if decision.alerts or not decision.rule.startswith("default"):
                self._note(finding, sink, direction, team, label)
            if decision.do in ("block", "route_local"):
                raise blocked(decision, finding, sink)
            if decision.do != "allow":
                deeds[finding.start] = decision.do

        def replace(finding: Finding, value: str) -> str:
            deed = deeds[finding.start]
            if deed == "tokenise" and vault is not None:
                return vault.token_for(finding.type, value)
            return REDACTED if deed == "redact" else placeholder(finding, value)

        return [finding for finding in found if finding.start in deeds], replace

    def _note(self, finding: Finding, sink: SinkName, direction: Direction, team: str, label: Label) -> None:
        decision = self.rules.decide(finding, label, sink, direction, team)
        for name in decision.alerts:
            self._told(RuleHit(name, "alert", finding.type, sink, team, is_alert=True))
        if not decision.rule.startswith("default"):
            self._told(RuleHit(decision.rule, decision.do, finding.type, sink, team, is_alert=False))


def _labelled(label: Label, found: Iterable[Finding], masked: Iterable[Finding]) -> Label:
    """The label with what is still in the text."""
    gone = {finding.start for finding in masked}
    is_personal = any(finding.is_personal and finding.start not in gone for finding in found)
    return label.with_category(PERSONAL) if is_personal else label


def _without_escapes(text: str) -> str:
    """JSON text with the escapes of its strings undone in bulk. Lengths change: for searching only."""
    # Pairs of backslashes first, so that what is left of a run of them begins an escape.
    text = text.replace("\\\\", _PAIR).replace("\\n", "\n").replace('\\"', '"')
    if "\\" in text:
        text = text.replace("\\t", "\t").replace("\\r", "\r").replace("\\/", "/")
        text = text.replace("\\b", "\b").replace("\\f", "\f")
        if "\\u" in text:
            text = _UNICODE_ESCAPES.sub(_decode_escapes, text)
    return text.replace(_PAIR, "\\")


def _decode_escapes(match: re.Match[str]) -> str:
    units = bytes.fromhex(match[0].replace("\\u", ""))
    return units.decode("utf-16-be", "replace")
