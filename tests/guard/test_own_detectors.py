"""A workspace's own patterns, dictionaries, allowances, switches and recognizer."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from roadbed.guard.custom import refusal_of
from roadbed.guard.detect import Detector
from roadbed.guard.gate import Guard
from roadbed.guard.manifest import DictionaryConfig, GuardConfig, PatternConfig, RecognizerConfig
from roadbed.guard.mask import mask_text
from roadbed.guard.recognizer import RecognizerMissing
from roadbed.guard.rules import GuardRule
from roadbed.guard.vault import Vault
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import PUBLIC

DETECTOR = Detector()
OWN = GuardConfig(
    patterns={"badge": PatternConfig(r"\bEMP-[0-9]{4,6}\b"), "loose": PatternConfig("kilo[a-z]{0,4}", case=False)},
    dictionaries={"projects": DictionaryConfig(terms=["Blue Heron", "Müller & Söhne", "Zebra"])},
)


def found(config: GuardConfig, text: str, folder: Path | None = None) -> list[tuple[str, str]]:
    guard = Guard(DETECTOR, config, folder=folder)
    return [(text[f.start : f.end], f.rule) for f in guard.scan(text)]


@pytest.mark.parametrize(
    "pattern",
    ["a+", "a*b", "(a{1,5}){1,5}", "(?=a)b", r"(a)\1", "^ab", "ab$", "x{300}", "(", "a{0,3}",
     "[a-z]{1,40}[a-z]{1,40}[a-z]{1,40}z",
     "(?:a|a|a|a){30}(?:b|b|b|b){20}", "(?<!x)y"],
)  # fmt: skip
def test_unbounded_patterns_are_refused_with_the_reason(pattern: str) -> None:
    assert refusal_of(pattern)
    with pytest.raises(ConfigError, match=r"guard\.patterns\.mine: "):
        Guard(DETECTOR, GuardConfig(patterns={"mine": PatternConfig(pattern)}))


@pytest.mark.parametrize(
    "pattern", ["EMP-[0-9]{4,6}", r"\b[A-Z]{2}\d{6}\b", "(?:ab|cd){2}x?", "[a-z]{1,20}-[0-9]{1,20}"]
)
def test_bounded_patterns_are_taken(pattern: str) -> None:
    assert refusal_of(pattern) == ""


def test_patterns_and_dictionaries_find_whatever_the_writing() -> None:
    assert found(OWN, "see EMP-12345, and KILOwatt") == [
        ("EMP-12345", "pattern.badge"),
        ("KILOwatt", "pattern.loose"),
    ]
    assert found(OWN, "the BLUE  heron, müller & söhne; zebras") == [
        ("BLUE  heron", "dictionary.projects"),
        ("müller & söhne", "dictionary.projects"),
    ]
    assert found(OWN, "ＥＭＰ-１２３４５ z\u200bebra EMP%2D12345") == [
        ("ＥＭＰ-１２３４５", "pattern.badge"),
        ("z\u200bebra", "dictionary.projects"),
        ("EMP%2D12345", "pattern.badge"),
    ]


def test_a_dictionary_may_be_a_file_of_the_workspace_alone(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("# people\nBlue Heron\n", encoding="utf-8")
    config = GuardConfig(dictionaries={"names": DictionaryConfig(file="names.txt")})
    assert found(config, "a blue heron", tmp_path) == [("blue heron", "dictionary.names")]
    for name in ("../x.txt", "missing.txt"):
        with pytest.raises(ConfigError):
            Guard(DETECTOR, GuardConfig(dictionaries={"names": DictionaryConfig(file=name)}), folder=tmp_path)


def test_allowed_values_and_what_is_off() -> None:
    text = "bob@example.com, 8.8.8.8, EIN 12-3456789"
    assert found(GuardConfig(allow_patterns=[r"[a-z]{1,20}@example\.com"]), text)[0][0] == "8.8.8.8"
    assert found(GuardConfig(off=["ip", "us_ein"]), text) == [("bob@example.com", "email")]
    for wrong in (GuardConfig(off=["emial"]), GuardConfig(off=["secret"]), GuardConfig(optional=["email"])):
        with pytest.raises(ConfigError):
            Guard(DETECTOR, wrong)


def test_names_and_addresses_are_there_when_asked_for() -> None:
    text = "Dr. Anna Schmidt lives at 12 Old Kent Road, London SE1 5UZ; Hauptstrasse 12, 10115 Berlin; 5 rue de la Paix"
    assert found(GuardConfig(), text) == []
    kinds = [rule for _, rule in found(GuardConfig(optional=["person", "address"]), text)]
    assert kinds == ["name_after_title", "address", "address", "address", "address"]


class Names:
    """Finds one name."""

    def find(self, text: str) -> Iterable[tuple[str, int, int]]:
        place = text.find("Ada Byron")
        return [("person", place, place + 9)] if place >= 0 else []


class Broken:
    """Fails."""

    def find(self, text: str) -> Iterable[tuple[str, int, int]]:
        raise RuntimeError("no model")


class Late:
    """Never answers in time."""

    freed = threading.Event()

    def find(self, text: str) -> Iterable[tuple[str, int, int]]:
        self.freed.wait(60)
        return []


class Outside:
    """Names a span that is not in the text."""

    def find(self, text: str) -> Iterable[tuple[str, int, int]]:
        return [("person", 0, len(text) + 1)]


def plugged(name: str, *, required: bool = False) -> Guard:
    return Guard(
        DETECTOR,
        GuardConfig(recognizer=RecognizerConfig(f"{__name__}:{name}", 50 if name == "Late" else 30_000, required)),
    )


def test_a_recognizer_adds_to_the_findings() -> None:
    guard = plugged("Names")
    assert [f.type for f in guard.scan("by Ada Byron, ada@example.com")] == ["person", "email"]
    assert guard.scan_bytes(b'{"a": "nothing"}') == {"custom"}, "no short way past the recognizer"
    sent = guard.for_model("by Ada Byron", PUBLIC, is_local=False, vault=Vault())
    assert "Ada" not in sent.text


@pytest.mark.parametrize("name", ["Broken", "Late", "Outside"])
def test_a_recognizer_that_fails_is_named_and_where_required_nothing_leaves(name: str) -> None:
    Late.freed.clear()
    guard = plugged(name)
    found, missing = guard.scan_with_missing("ada@example.com")
    assert [f.type for f in found] == ["email"]
    assert missing == [f"{__name__}:{name}"]
    guard.for_model("ada@example.com", PUBLIC, is_local=False, vault=Vault())
    with pytest.raises(RecognizerMissing):
        plugged(name, required=True).for_model("x", PUBLIC, is_local=False, vault=Vault())
    Late.freed.set()
    for thread in threading.enumerate():
        if thread.name == "recognizer":
            thread.join(60)


def test_a_recognizer_that_is_not_there_is_refused() -> None:
    for name in ("no.such.module:X", "no-entry-point", f"{__name__}:PIECES"):
        with pytest.raises(ConfigError):
            Guard(DETECTOR, GuardConfig(recognizer=RecognizerConfig(name)))


PIECES = st.sampled_from(
    ["EMP-", "1234", "56", " ", "blue", "Heron", " heron ", "kilo", "watt", "zebra", "müller", "é", "\n"]
)


@settings(max_examples=150)
@given(st.lists(PIECES, max_size=14).map("".join), st.lists(st.integers(0, 80), max_size=20))
def test_streams_equal_the_whole_with_own_detectors(text: str, cuts: list[int]) -> None:
    guard = Guard(DETECTOR, OWN)
    masker = guard.stream_for_record()
    places = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    out, done = "", 0
    for place in places:
        out += masker.feed(text[done:place])
        done = place
    assert out + masker.finish() == mask_text(text, guard.scan(text))


@pytest.mark.parametrize("find", ["person", "personal", "any", "custom", "recognizer.ours"])
def test_rules_on_answers_that_count_on_a_recognizer_are_refused(find: str) -> None:
    recognizer = RecognizerConfig(f"{__name__}:Names", 30_000)
    rules = [GuardRule("mask", [find], sink=["caller"], direction="out")]
    with pytest.raises(ConfigError, match=r"guard.rules\[0\] acts on models' answers"):
        Guard(DETECTOR, GuardConfig(recognizer=recognizer, rules=rules))
    Guard(DETECTOR, GuardConfig(recognizer=structs.replace(recognizer, answers="patterns"), rules=rules))
    elsewhere = [GuardRule("mask", [find], sink=["remote_model"], direction="out")]
    Guard(DETECTOR, GuardConfig(recognizer=recognizer, rules=elsewhere))
