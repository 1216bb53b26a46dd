"""`Guard`: the one gate through which text passes to a model, an embedder, an index, a log or a record.

Only this room makes `Guarded`. Defaults: secrets are replaced everywhere; personal data stays in the index and goes to
local models under the label ``personal``; remote models get reversible tokens; records and logs get placeholders.
The gate keeps nothing and knows no request. The invariant: what is returned contains no finding that its sink may not
see, and guarding a guarded text again changes nothing.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from roadbed.guard.detect import Detector
from roadbed.guard.erased import NOTHING_ERASED, ErasedValues
from roadbed.guard.finding import CUSTOM, Finding, merge_overlaps
from roadbed.guard.looking import allowed_values, looking_for
from roadbed.guard.manifest import GuardConfig, TeamConfig
from roadbed.guard.mask import OffsetMap, mask_text, mask_text_with_map, placeholder
from roadbed.guard.recognizer import RecognizerMissing, load_recognizer
from roadbed.guard.stream_mask import WORD_CHARACTERS_MAX, StreamMasker
from roadbed.guard.vault import StreamUnmasker, Vault
from roadbed.guard.windows import WINDOW_CHARACTERS, candidates_of_long
from roadbed.kernel.guarded import Guarded, make_guarded
from roadbed.kernel.label import PERSONAL, PUBLIC, Label
from roadbed.kernel.principal import Principal

_NOTHING: Final[frozenset[str]] = frozenset()
_PAIR = "\ud800"  # stands for two backslashes: half a surrogate pair comes neither in UTF-8 nor of escapes
_UNICODE_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")


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
        return Guard(self._detector, config, teams, folder=folder, erased=self._erased)

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

    def _scan(self, text: str) -> list[Finding]:
        found = self._allowed_out(text)
        return merge_overlaps(found) if found else found

    def scan_bytes(self, body: bytes) -> frozenset[str]:
        """The types of what a JSON body holds anywhere; empty when the body may be forwarded byte for byte.

        Escapes are undone for the search, so that ``\\u0040`` hides nothing. Keys and numbers count as text too. For a
        body with findings the caller decodes the leaves and guards each one. `ValueError` when it is not UTF-8.
        """
        text = body.decode()
        if "\\" in text:
            text = _without_escapes(text)
        found = self._allowed_out(text)
        types = frozenset(finding.type for finding in found) if found else _NOTHING
        # What a recognizer would find is seen when the leaves are guarded one by one.
        return types if self._recognizer is None else types | {CUSTOM}

    # -- sinks --------------------------------------------------------------------------------------------------------

    def for_index(self, text: str, label: Label) -> Guarded:
        """Text to be stored and indexed: secrets replaced, personal data kept and labelled."""
        return self._without_secrets(text, label, "index")

    def for_index_with_map(self, text: str, label: Label) -> tuple[Guarded, OffsetMap]:
        """As `for_index`, with the map to offsets in ``text``, for whoever knows pages or headings by those."""
        found = self._with_erased(text)
        secrets = [finding for finding in found if finding.is_secret]
        masked, offsets = mask_text_with_map(text, secrets)
        return make_guarded(masked, _labelled(label, found), sink="index", masked_count=len(secrets)), offsets

    def for_embedder(self, text: str, label: Label, *, is_local: bool) -> Guarded:
        """Text to be turned into a vector: as `for_index` for a local embedder, else with placeholders throughout."""
        if is_local:
            return self._without_secrets(text, label, "embedder")
        return self._with_placeholders(text, label, "embedder")

    def for_model(self, text: str, label: Label, *, is_local: bool, vault: Vault) -> Guarded:
        """Text for a model: secrets replaced; for a model elsewhere, personal data as tokens of ``vault``."""
        if is_local:
            return self._without_secrets(text, label, "model")
        scanned, missing = self.scan_with_missing(text)
        if missing and self._recognizer is not None and self._recognizer.is_required:
            raise RecognizerMissing(f"the recognizer {missing[0]} did not answer")
        found = [finding for finding in scanned if finding.is_secret or finding.is_personal]

        def replace(finding: Finding, value: str) -> str:
            return placeholder(finding, value) if finding.is_secret else vault.token_for(finding.type, value)

        masked = mask_text(text, found, replace)
        return make_guarded(masked, label.without_category(PERSONAL), sink="remote model", masked_count=len(found))

    def for_record(self, text: str, label: Label = PUBLIC, *, characters_max: int | None = None) -> Guarded:
        """Text for traces, the spool and exports: typed placeholders such as ``[EMAIL]`` for every finding.

        With ``characters_max`` it is cut to that length after masking, so that no half of a value stands at the cut.
        """
        if characters_max is None or len(text) <= characters_max:
            return self._with_placeholders(text, label, "record")
        whole = self._with_placeholders(text[: characters_max + WORD_CHARACTERS_MAX], label, "record")
        return make_guarded(whole.text[:characters_max], whole.label, sink="record", masked_count=whole.masked_count)

    def for_record_of_clean(self, text: str) -> Guarded:
        """`for_record` for a text that is part of a body in which `scan_bytes` has just found nothing."""
        return make_guarded(text, PUBLIC, sink="record")

    def for_log(self, text: str) -> Guarded:
        """A short text for the log, as `for_record`; prompts and documents do not go to the log at all."""
        return self._with_placeholders(text, PUBLIC, "log")

    def stream_for_record(self) -> StreamMasker:
        """`for_record` for a text that comes in pieces: placeholders for every finding."""
        return StreamMasker(self._allowed_out, reach=self._detector.looking.reach_characters)

    def stream_without_secrets(self) -> StreamMasker:
        """A model's answer in pieces with secrets replaced and personal data kept, as a caller may see it."""
        return StreamMasker(lambda text: [finding for finding in self._allowed_out(text) if finding.is_secret])

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

    def _without_allowed(self, text: str, found: list[Finding]) -> list[Finding]:
        if self._allowed:
            found = [finding for finding in found if text[finding.start : finding.end] not in self._allowed]
        pattern = self._allowed_values
        if pattern is not None:
            found = [finding for finding in found if not pattern.fullmatch(text, finding.start, finding.end)]
        return found

    def _with_erased(self, text: str) -> list[Finding]:
        """What `scan` finds, and the values that were erased at a person's request."""
        found, erased = self.scan(text), self._erased.findings(text)
        return merge_overlaps([*found, *erased]) if erased else found

    def _without_secrets(self, text: str, label: Label, sink: str) -> Guarded:
        found = self._with_erased(text)
        if not found:
            return make_guarded(text, label, sink=sink)
        secrets = [finding for finding in found if finding.is_secret]
        return make_guarded(mask_text(text, secrets), _labelled(label, found), sink=sink, masked_count=len(secrets))

    def _with_placeholders(self, text: str, label: Label, sink: str) -> Guarded:
        found = self.scan(text)
        if not found and label is PUBLIC:
            return make_guarded(text, PUBLIC, sink=sink)
        clean = label.without_category(PERSONAL)
        return make_guarded(mask_text(text, found), clean, sink=sink, masked_count=len(found))


def _labelled(label: Label, found: Iterable[Finding]) -> Label:
    return label.with_category(PERSONAL) if any(finding.is_personal for finding in found) else label


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
