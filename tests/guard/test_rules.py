"""The guard's rules: which one fits, what it does, and that the defaults are what they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.detect import Detector
from roadbed.guard.finding import Finding
from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig
from roadbed.guard.rules import STORED, GuardBlocked, GuardRule, RuleHit, RuleTable
from roadbed.guard.vault import Vault
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import LOCAL_ONLY, PUBLIC, Label, parse_label

GUARD = Guard(Detector())
MAIL = "bob@example.com"
CARD = "4111 1111 1111 1111"
KEY = "AKIAIOSFODNN7ABCDEFG"
TEXT = f"{MAIL} paid with {CARD} and {KEY}"
CONFIDENTIAL = parse_label(["confidential"])


def guard(*rules: GuardRule) -> Guard:
    """A guard with these rules."""
    return GUARD.with_config(GuardConfig(rules=list(rules)), {})


def sent(made: Guard, *, is_local: bool = False, team: str = "", label: Label = PUBLIC) -> str:
    """What a model gets of `TEXT`."""
    return made.for_model(TEXT, label, is_local=is_local, vault=Vault(), team=team).text


def test_the_first_rule_that_fits_is_the_one() -> None:
    made = guard(GuardRule("redact", ["card"]), GuardRule("mask", ["personal"], sink=["remote_model", "local_model"]))
    assert sent(made) == "[EMAIL] paid with [REDACTED] and [SECRET]"
    assert sent(made, is_local=True) == "[EMAIL] paid with [REDACTED] and [SECRET]"
    assert made.for_index(TEXT, PUBLIC).text == f"{MAIL} paid with [REDACTED] and [SECRET]"
    assert made.for_record(TEXT).text == "[EMAIL] paid with [REDACTED] and [SECRET]"


def test_what_keeps_a_value_on_local_models_says_nothing_of_answers() -> None:
    made = guard(
        GuardRule("route_local", ["card"], sink=["remote_model"]),
        GuardRule("tokenise", ["email"], sink=["local_model"]),
        GuardRule("redact", ["phone"], sink=["caller"], direction="out"),
    )
    passer = made.stream_of_answer("support", PUBLIC)
    answer = f"{MAIL} paid with {CARD}, call +47 22 33 44 55"
    assert passer.feed(answer) + passer.finish() == f"{MAIL} paid with {CARD}, call [REDACTED]"


def test_rules_of_a_team_a_label_and_a_direction() -> None:
    made = guard(
        GuardRule("allow", ["email"], sink=["remote_model"], team="billing"),
        GuardRule("block", ["email"], sink=["remote_model"], label="confidential"),
        GuardRule("mask", ["email"], sink=["tool"], direction="in"),
    )
    assert MAIL in sent(made, team="billing", label=CONFIDENTIAL)
    assert "EMAIL_" in sent(made, team="other")
    with pytest.raises(GuardBlocked) as refused:
        sent(made, team="other", label=CONFIDENTIAL)
    assert "guard.rules[1]" in str(refused.value)
    assert "email" in str(refused.value)
    assert MAIL not in str(refused.value) + refused.value.hint
    assert made.for_tool(MAIL, PUBLIC, is_sent=False).text == "[EMAIL]"
    assert made.for_tool(MAIL, PUBLIC, is_sent=True).text == MAIL


def test_what_stays_local_is_labelled_so_and_never_sent_elsewhere() -> None:
    made = guard(GuardRule("route_local", ["card"], sink=["remote_model"]))
    assert LOCAL_ONLY in made.label_of(TEXT).categories
    assert LOCAL_ONLY not in made.label_of(MAIL).categories
    assert CARD in sent(made, is_local=True)
    with pytest.raises(GuardBlocked, match="local"):
        sent(made)


def test_callers_are_refused_by_what_they_write() -> None:
    made = guard(GuardRule("block", ["secret"], sink=["caller"], direction="in"))
    with pytest.raises(GuardBlocked):
        made.label_of(TEXT)
    assert made.label_of(MAIL).categories == {"personal"}


def test_an_alert_tells_and_goes_on() -> None:
    hits: list[RuleHit] = []
    made = guard(GuardRule("alert", ["card"]), GuardRule("redact", ["card"])).with_observer(hits.append)
    assert "[REDACTED]" in sent(made)
    assert [(hit.rule, hit.do, hit.type, hit.is_alert) for hit in hits] == [
        ("guard.rules[0]", "alert", "card", True),
        ("guard.rules[1]", "redact", "card", False),
    ]
    assert not any(CARD in repr(hit) for hit in hits)
    again = made.with_config(GuardConfig(rules=[GuardRule("redact", ["card"])]), {})
    sent(again)
    assert len(hits) == 3, "a changed manifest keeps its observer"


def test_rules_by_label_alone_narrow_what_models_may_be_asked() -> None:
    table = RuleTable([GuardRule("block", label="restricted"), GuardRule("route_local", label="confidential",
                       sink=["remote_model"])])  # fmt: skip
    hits: list[RuleHit] = []
    assert table.label_for_models(PUBLIC, "", hits.append) is PUBLIC
    assert LOCAL_ONLY in table.label_for_models(CONFIDENTIAL, "", hits.append).categories
    with pytest.raises(GuardBlocked):
        table.label_for_models(parse_label(["restricted"]), "", hits.append)
    assert [hit.do for hit in hits] == ["route_local", "block"]


@pytest.mark.parametrize(
    "rule",
    [
        GuardRule("allow"),
        GuardRule("allow", ["secret"]),
        GuardRule("allow", ["any"], sink=["index"]),
        GuardRule("tokenise", ["email"], sink=["record"]),
        GuardRule("route_local", ["email"]),
        GuardRule("mask", label="confidential"),
        GuardRule("mask", ["emial"]),
        GuardRule("block", label="no such level!"),
    ],
)
def test_rules_that_cannot_be_are_refused(rule: GuardRule) -> None:
    with pytest.raises(ConfigError):
        RuleTable([rule])


SINKS = [
    "remote_model",
    "local_model",
    "remote_embedder",
    "embedder",
    "index",
    "record",
    "log",
    "export",
    "tool",
    "cache",
]
RULES = st.builds(
    GuardRule,
    st.sampled_from(["allow", "mask", "redact", "block", "alert"]),
    st.lists(st.sampled_from(["email", "card", "personal", "any", "secret", "aws"]), min_size=1, max_size=3),
    st.sampled_from(["", "confidential"]),
    st.lists(st.sampled_from(SINKS), max_size=3),
    st.sampled_from(["", "a"]),
    st.sampled_from(["", "in", "out"]),
)


@given(st.lists(RULES, max_size=6), st.sampled_from(SINKS), st.sampled_from(["in", "out"]), st.sampled_from(["", "a"]))
def test_a_decision_is_that_of_the_first_rule_that_fits_and_no_secret_is_stored(
    rules: list[GuardRule], sink: str, direction: str, team: str
) -> None:
    kept = []
    for rule in rules:
        try:
            RuleTable([rule])
        except ConfigError:
            continue
        kept.append(rule)
    table = RuleTable(kept)
    for finding in (Finding("email", 0, 1, "email", 1.0, False), Finding("secret", 0, 1, "aws", 1.0, True)):
        kinds = {finding.type, finding.rule, "any", *([] if finding.is_secret else ["personal"])}
        for label in (PUBLIC, CONFIDENTIAL):
            fitting = [
                rule
                for rule in kept
                if kinds & set(rule.find)
                and (not rule.label or label == CONFIDENTIAL)
                and (not rule.sink or sink in rule.sink)
                and rule.team in ("", team)
                and rule.direction in ("", direction)
                and rule.do != "alert"
            ]
            found = table.decide(finding, label, sink, direction, team)  # type: ignore[arg-type]
            assert found == table.decide(finding, label, sink, direction, team)  # type: ignore[arg-type]
            if finding.is_secret and sink in STORED:
                assert found.do != "allow"
            elif fitting:
                assert found.do == fitting[0].do
            else:
                assert found.rule.startswith("default")


@given(st.integers(1, 40))
def test_answers_are_ruled_the_same_however_they_are_cut(size: int) -> None:
    made = guard(GuardRule("mask", ["email"], sink=["caller"], direction="out"))
    stream = made.stream_of_answer("", PUBLIC)
    pieces = [TEXT[start : start + size] for start in range(0, len(TEXT), size)]
    masked = TEXT.replace(MAIL, "[EMAIL]").replace(KEY, "[SECRET]")
    assert "".join(map(stream.feed, pieces)) + stream.finish() == masked


@pytest.mark.parametrize(
    ("rule", "local", "remote"),
    [
        (GuardRule("mask", ["email"], sink=["remote_model"]), MAIL, "[EMAIL]"),
        (GuardRule("mask", ["email"], sink=["local_model"]), "[EMAIL]", MAIL),
        (GuardRule("redact", ["email"], sink=["remote_model"], direction="in"), MAIL, "[REDACTED]"),
        (GuardRule("mask", ["email"]), "[EMAIL]", "[EMAIL]"),
        (GuardRule("mask", ["email"], sink=["remote_model"], direction="out"), MAIL, MAIL),
        (GuardRule("allow", ["email"], sink=["remote_model"]), MAIL, MAIL),
    ],
)
def test_a_rule_without_direction_acts_on_answers_too_and_on_its_own_models(
    rule: GuardRule, local: str, remote: str
) -> None:
    made = guard(rule)
    for is_local, expected in ((True, local), (False, remote)):
        stream = made.stream_of_answer("", PUBLIC, is_local=is_local)
        assert stream.feed(f"write to {MAIL} today") + stream.finish() == f"write to {expected} today"


def test_answers_are_read_in_full_only_where_a_rule_changes_them() -> None:
    def reads(*rules: GuardRule) -> bool:
        return guard(*rules).reads_answers

    assert reads(GuardRule("mask", ["email"], sink=["remote_model"]))
    assert reads(GuardRule("alert", ["card"]))
    assert not reads(GuardRule("allow", ["email"], sink=["remote_model"]))
    assert not reads(GuardRule("route_local", ["card"], sink=["remote_model"]))
    assert not reads(GuardRule("mask", ["card"], sink=["record", "tool"]))


def test_a_blocked_answer_ends() -> None:
    stream = guard(GuardRule("block", ["secret"], sink=["caller"], direction="out")).stream_of_answer("", PUBLIC)
    with pytest.raises(GuardBlocked):
        _ = stream.feed(f"the key is {KEY} and more of it ") + stream.finish()
