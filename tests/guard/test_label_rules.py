"""Rules by label alone: what they say at each sink that knows the label of its data, and which of them cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.detect import Detector
from roadbed.guard.gate import WITHHELD, Guard
from roadbed.guard.manifest import GuardConfig
from roadbed.guard.rules import LABELLED, MODELS, GuardBlocked, GuardRule, RuleHit, RuleTable
from roadbed.guard.vault import Vault
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import LEVELS, PUBLIC, Label, parse_label

GUARD = Guard(Detector())
CONFIDENTIAL = parse_label(["confidential"])
RESTRICTED = parse_label(["restricted", "region:eu"])
TEXT = "the boat leaves at noon"
Way = Callable[[Guard, Label], Any]


def guard(*rules: GuardRule) -> Guard:
    """A guard with these rules."""
    return GUARD.with_config(GuardConfig(rules=list(rules)), {})


WAYS: dict[str, Way] = {
    "index": lambda made, label: made.for_index(TEXT, label),
    "index with map": lambda made, label: made.for_index_with_map(TEXT, label),
    "embedder": lambda made, label: made.for_embedder(TEXT, label, is_local=True),
    "remote_embedder": lambda made, label: made.for_embedder(TEXT, label, is_local=False),
    "export": lambda made, label: made.for_export(TEXT, label),
    "tool": lambda made, label: made.for_tool(TEXT, label, is_sent=True),
    "caller": lambda made, label: made.check_label(label, "caller"),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_label_is_blocked_at_its_sink_and_nowhere_else(name: str) -> None:
    sink: Any = name.partition(" ")[0]
    made = guard(GuardRule("block", label="confidential", sink=[sink]))
    with pytest.raises(GuardBlocked, match=r"guard\.rules\[0\].*confidential"):
        WAYS[name](made, CONFIDENTIAL)
    with pytest.raises(GuardBlocked):
        WAYS[name](made, RESTRICTED)
    WAYS[name](made, parse_label(["internal"]))
    WAYS[name](made, PUBLIC)
    for other, way in WAYS.items():
        if other.partition(" ")[0] != sink:
            way(made, CONFIDENTIAL)


def test_a_record_of_what_may_not_be_recorded_holds_no_word_of_it() -> None:
    made = guard(GuardRule("block", label="confidential", sink=["record"]))
    assert made.for_record(TEXT, CONFIDENTIAL).text == WITHHELD
    assert made.for_record(TEXT * 9, RESTRICTED, characters_max=20).text == WITHHELD
    assert made.for_record(TEXT, parse_label(["internal"])).text == TEXT


def test_personal_data_that_is_found_is_a_label_too() -> None:
    made = guard(GuardRule("block", label="personal", sink=["index", "export"]))
    with pytest.raises(GuardBlocked):
        made.for_index("write to ann@example.com", PUBLIC)
    assert made.for_export("write to ann@example.com", PUBLIC).text == "write to [EMAIL]"


def test_what_comes_out_of_a_tool_has_a_label_too() -> None:
    made = guard(GuardRule("block", label="confidential", sink=["tool"], direction="in"))
    made.for_tool(TEXT, CONFIDENTIAL, is_sent=True)
    with pytest.raises(GuardBlocked, match="come from"):
        made.for_tool(TEXT, CONFIDENTIAL, is_sent=False)


def test_the_first_rule_that_fits_is_the_one_so_that_a_team_may_be_let_through() -> None:
    hits: list[RuleHit] = []
    made = guard(
        GuardRule("alert", label="restricted", sink=["caller"]),
        GuardRule("allow", label="confidential", sink=["caller"], team="board"),
        GuardRule("block", label="confidential", sink=["caller"]),
    ).with_observer(hits.append)
    made.check_label(RESTRICTED, "caller", "board")
    assert [(hit.rule, hit.do, hit.type, hit.sink) for hit in hits] == [("guard.rules[0]", "alert", "label", "caller")]
    with pytest.raises(GuardBlocked, match=r"guard\.rules\[2\]"):
        made.check_label(CONFIDENTIAL, "caller", "support")
    assert hits[-1].do == "block"
    assert made.lets(CONFIDENTIAL, "cache", "support")
    assert not made.lets(CONFIDENTIAL, "caller", "support")


def test_what_a_caller_may_not_hear_no_model_is_asked_for() -> None:
    made = guard(GuardRule("block", label="confidential", sink=["caller"], team="support"))
    assert made.label_for_models(CONFIDENTIAL, "board") == CONFIDENTIAL
    with pytest.raises(GuardBlocked):
        made.label_for_models(CONFIDENTIAL, "support")


def test_without_a_sink_a_label_is_kept_from_models_alone() -> None:
    made = guard(GuardRule("block", label="restricted"))
    with pytest.raises(GuardBlocked):
        made.label_for_models(RESTRICTED, "")
    assert made.for_index(TEXT, RESTRICTED).text == TEXT
    assert made.for_model(TEXT, RESTRICTED, is_local=True, vault=Vault()).text == TEXT


@pytest.mark.parametrize(
    "rule",
    [
        GuardRule("block", label="confidential", sink=["log"]),
        GuardRule("block", label="confidential", sink=["caller"], direction="in"),
        GuardRule("redact", label="confidential", sink=["export"]),
    ],
)
def test_rules_that_would_never_apply_are_refused(rule: GuardRule) -> None:
    with pytest.raises(ConfigError, match=r"guard\.rules\[0\]"):
        RuleTable([rule])


RULES = st.builds(
    GuardRule,
    st.sampled_from(["allow", "block", "alert"]),
    label=st.sampled_from([*LEVELS, "personal", "region:eu"]),
    sink=st.lists(st.sampled_from(sorted(LABELLED)), max_size=3),
    team=st.sampled_from(["", "a"]),
)
LABELS = st.builds(
    lambda level, words: parse_label([level, *words]),
    st.sampled_from([*LEVELS]),
    st.lists(st.sampled_from(["personal", "region:eu"]), max_size=2),
)


@given(st.lists(RULES, max_size=5), LABELS, st.sampled_from(sorted(LABELLED)), st.sampled_from(["", "a"]))
def test_the_first_that_fits_decides_over_any_table(rules: list[GuardRule], label: Label, sink: Any, team: str) -> None:
    def fits(rule: GuardRule) -> bool:
        wanted = parse_label([rule.label])
        return (
            label is not PUBLIC
            and rule.do != "alert"
            and sink in (rule.sink or MODELS)
            and rule.team in ("", team)
            and label.level >= wanted.level
            and wanted.categories <= label.categories
            and (wanted.regions is None or label.regions == wanted.regions)
        )

    deeds = [rule.do for rule in rules if fits(rule)]
    assert guard(*rules).lets(label, sink, team) == (deeds[:1] != ["block"])
