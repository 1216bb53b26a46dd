"""What is done with a finding on its way to a sink: the manifest's rules, then the defaults, the first that fits.

A rule fits by the finding's type, the data's label, the sink, the caller's team and the direction. The table is made
once per manifest; a decision is a dictionary look-up. Called by `guard.gate` for texts in which something was found
and by the gateway for data with a label, never for a text in which nothing is. The invariant: a secret is stored
nowhere as it is, whatever a manifest says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from roadbed.guard.finding import ADDRESS, CUSTOM, PERSON, PRIVATE_IP, SECRET, TYPES, Finding
from roadbed.kernel.config import nearest
from roadbed.kernel.errors import ConfigError, Refused
from roadbed.kernel.label import LOCAL_ONLY, PUBLIC, Label, parse_label

Do = Literal["allow", "mask", "tokenise", "redact", "block", "route_local", "alert"]
SinkName = Literal[
    "remote_model", "local_model", "remote_embedder", "embedder", "index", "record", "log", "export", "tool", "cache",
    "caller",
]  # fmt: skip
Direction = Literal["in", "out"]

PERSONAL: Final = "personal"
ANY: Final = "any"
MODELS: Final = frozenset({"remote_model", "local_model"})
STORED: Final = frozenset({"index", "record", "log", "export", "cache"})
LABELLED: Final = MODELS | {"remote_embedder", "embedder", "index", "record", "export", "tool", "cache", "caller"}
"""Sinks at which the label of the data is known. Logs hold nothing of it."""
_PASS_IN_ANSWERS: Final = frozenset({*TYPES, PERSONAL}) - {SECRET}
"""What models may write to callers by default, so that a rule that allows it changes nothing there."""
_RECOGNIZED: Final = frozenset({PERSON, ADDRESS, CUSTOM, PERSONAL, ANY})
DECISIONS_MAX: Final = 4_096
RULES_MAX: Final = 200


class GuardBlocked(Refused):
    """A rule of the manifest's guard blocks what the text holds, or where it was to go; nothing was sent."""

    code = "guard.blocked"
    hint = "leave the value out, or change the rule that `roadbed config explain guard` prints"


class GuardRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done with what was found. What is left out fits everything; the first rule that fits is the one."""

    do: Annotated[Do, Meta(description="`alert` tells and goes on to the next rule that fits")]
    find: Annotated[
        list[str],
        Meta(max_length=100, description="types of findings, `personal`, `secret`, `any`, or detectors' rules"),
    ] = []
    label: Annotated[str, Meta(description="the data's label is this one, or higher")] = ""
    sink: Annotated[list[SinkName], Meta(max_length=11, description="where it goes; everywhere when left out")] = []
    team: Annotated[str, Meta(description="the caller's team")] = ""
    direction: Annotated[
        Literal["in", "out", ""], Meta(description="`out` to the sink, `in` from it; both when left out")
    ] = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule. ``name`` is its place; None stands for everything."""

    name: str
    do: Do
    find: frozenset[str] | None = None
    label: Label | None = None
    sinks: frozenset[str] | None = None
    team: str = ""
    direction: str = ""

    def fits(self, kinds: frozenset[str], label: Label, sink: str, direction: str, team: str) -> bool:
        """Whether the rule is about a finding of these ``kinds`` (its type, its detector's rule, its group)."""
        return (
            (self.find is None or not self.find.isdisjoint(kinds))
            and (self.label is None or covers(label, self.label))
            and (self.sinks is None or sink in self.sinks)
            and self.team in ("", team)
            and self.direction in ("", direction)
        )

    def row(self) -> dict[str, Any]:
        """The rule in words."""
        return {
            "rule": self.name,
            "find": sorted(self.find) if self.find is not None else [ANY],
            "label": " ".join(self.label.words()) if self.label is not None else "",
            "sink": sorted(self.sinks) if self.sinks is not None else [ANY],
            "team": self.team,
            "direction": self.direction,
            "do": self.do,
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, by which rule, and the rules that only wanted to be told."""

    do: Do
    rule: str
    alerts: tuple[str, ...] = ()


class RuleHit(msgspec.Struct, frozen=True):
    """A manifest's rule that applied: names only, never a value."""

    rule: str
    do: Do
    type: str
    sink: str
    team: str
    is_alert: bool


Told = Callable[[RuleHit], None]


def tell_nobody(hit: RuleHit) -> None:
    """The observer where there is none."""


DEFAULTS: Final = (
    Rule("default: secrets", "mask", frozenset({SECRET}), sinks=frozenset(get_args(SinkName)) - {"caller"}),
    Rule("default: secrets in answers", "mask", frozenset({SECRET}), sinks=frozenset({"caller"}), direction="out"),
    Rule("default: remote models", "tokenise", frozenset({PERSONAL}), sinks=frozenset({"remote_model"})),
    Rule(
        "default: records",
        "mask",
        frozenset({PERSONAL, PRIVATE_IP}),
        sinks=frozenset({"remote_embedder", "record", "log", "export"}),
    ),
    Rule("default: all else", "allow"),
)


class RuleTable:
    """The rules of a manifest with the defaults after them. Immutable but for what it remembers of its decisions."""

    def __init__(self, rules: Iterable[GuardRule] = ()) -> None:
        """`ConfigError` for a rule that cannot be."""
        own = tuple(_compiled(number, rule) for number, rule in enumerate(rules))
        self.rules = (*own, *DEFAULTS)
        self._label_rules = tuple(rule for rule in own if rule.label is not None and rule.find is None)
        self._reads_labels = any(rule.label is not None for rule in own)
        self._decisions: dict[tuple[Any, ...], Decision] = {}
        self.judges_labels = bool(self._label_rules)
        self.reads_answers = any(_reads_answers(rule) and not _shows_secrets(rule) for rule in own)
        self.of_recognizer_in_answers = tuple(
            rule.name for rule in own if _reads_answers(rule) and _is_of_recognizer(rule)
        )
        self.hides_secrets = not any(_shows_secrets(rule) for rule in own)

    def decide(self, finding: Finding, label: Label, sink: SinkName, direction: Direction, team: str) -> Decision:
        """What is done with a finding in a text with this label on its way to (or from) a sink."""
        key = (
            finding.type,
            finding.rule,
            finding.is_secret,
            label if self._reads_labels else None,
            sink,
            direction,
            team,
        )
        found = self._decisions.get(key)
        if found is None:
            found = self._decided(_kinds(finding), label, sink, direction, team)
            if len(self._decisions) >= DECISIONS_MAX:
                self._decisions.clear()
            self._decisions[key] = found
        return found

    def _decided(self, kinds: frozenset[str], label: Label, sink: str, direction: str, team: str) -> Decision:
        alerts: list[str] = []
        for rule in self.rules:
            if not rule.fits(kinds, label, sink, direction, team):
                continue
            if rule.do == "alert":
                alerts.append(rule.name)
            elif rule.do == "allow" and SECRET in kinds and sink in STORED:
                continue
            else:
                return Decision(rule.do, rule.name, tuple(alerts))
        raise AssertionError("the last default fits everything")

    def judge_label(self, label: Label, sink: SinkName, direction: Direction, team: str) -> Decision | None:
        """What the rules by label alone say of data on its way to a sink; None when they say nothing."""
        alerts: list[str] = []
        for rule in self._label_rules:
            if not rule.fits(frozenset(), label, sink, direction, team):
                continue
            if rule.do == "alert":
                alerts.append(rule.name)
            else:
                return Decision(rule.do, rule.name, tuple(alerts))
        return Decision("allow", "", tuple(alerts)) if alerts else None

    def blocks_label(self, label: Label, sink: SinkName, direction: Direction, team: str, told: Told) -> str:
        """The rule by which data with this label goes to no such sink (or from none); empty where it may."""
        decision = self.judge_label(label, sink, direction, team) if label is not PUBLIC else None
        if decision is None:
            return ""
        for name in decision.alerts:
            told(RuleHit(name, "alert", "label", sink, team, is_alert=True))
        if decision.do == "allow":
            return ""
        told(RuleHit(decision.rule, decision.do, "label", sink, team, is_alert=False))
        return decision.rule

    def label_for_models(self, label: Label, team: str, told: Told) -> Label:
        """The label of a request with what the rules by label make of it. Raises `GuardBlocked`.

        What may not go to remote models only, for a block or for ``route_local``, becomes ``local-only``.
        """
        if label is PUBLIC or not self._label_rules:
            return label
        for sink in ("local_model", "remote_model"):
            decision = self.judge_label(label, sink, "out", team)
            if decision is None:
                continue
            for name in decision.alerts:
                told(RuleHit(name, "alert", "label", sink, team, is_alert=True))
            if decision.do == "block" and sink == "local_model":
                told(RuleHit(decision.rule, "block", "label", sink, team, is_alert=False))
                raise GuardBlocked(f"{decision.rule} lets data labelled {'+'.join(label.words())} go to no model")
            if decision.do in ("block", "route_local"):
                told(RuleHit(decision.rule, decision.do, "label", sink, team, is_alert=False))
                label = label.with_category(LOCAL_ONLY)
        return label

    def rows(self) -> Iterator[dict[str, Any]]:
        """The whole table in words, in the order in which it is asked."""
        return (rule.row() for rule in self.rules)


def covers(label: Label, wanted: Label) -> bool:
    """Whether a label is at least as strict as a rule's: its level, its categories and its regions."""
    if label.level < wanted.level or not wanted.categories <= label.categories:
        return False
    return wanted.regions is None or (label.regions is not None and label.regions <= wanted.regions)


def blocked(decision: Decision, finding: Finding, sink: SinkName) -> GuardBlocked:
    """The refusal that a decision asks for: names the type and the rule."""
    if decision.do == "route_local":
        return GuardBlocked(f"{decision.rule} keeps a finding of type {finding.type} on local models")
    return GuardBlocked(f"{decision.rule} blocks a finding of type {finding.type} for the sink {sink}")


def _kinds(finding: Finding) -> frozenset[str]:
    kind = SECRET if finding.is_secret else finding.type
    group = {PERSONAL} if not finding.is_secret and finding.is_personal else set()
    return frozenset({kind, finding.type, finding.rule, ANY, *group})


def _reads_answers(rule: Rule) -> bool:
    """Whether a rule changes what models answer: on its way from a model, or to the caller."""
    if rule.find is None or (rule.do == "allow" and rule.find <= _PASS_IN_ANSWERS):
        return False
    is_caller = (rule.sinks is None or "caller" in rule.sinks) and rule.direction in ("", "out")
    is_model = (rule.sinks is None or bool(rule.sinks & MODELS)) and rule.direction in ("", "in")
    return is_caller or is_model


def _is_of_recognizer(rule: Rule) -> bool:
    """Whether a rule speaks of what a recognizer that is code finds, or of groups that have that in them."""
    found = rule.find or frozenset()
    return not found.isdisjoint(_RECOGNIZED) or any(kind.startswith("recognizer.") for kind in found)


def _shows_secrets(rule: Rule) -> bool:
    """Whether a rule says that secrets in answers reach every caller as they are."""
    return (
        rule.do == "allow"
        and rule.find == frozenset({SECRET})
        and (rule.sinks is None or "caller" in rule.sinks)
        and rule.direction in ("", "out")
        and not rule.team
        and rule.label is None
    )


def _label_sinks(name: str, rule: GuardRule, sinks: frozenset[str] | None) -> frozenset[str]:
    """Where a rule by label alone is asked: on the way to models where it does not say. `ConfigError`."""
    if rule.do not in ("allow", "block", "route_local", "alert"):
        raise ConfigError(
            f"{name}: a label alone can be allowed, blocked, kept local or alerted", hint="add `find: [any]`"
        )
    sinks = sinks if sinks is not None else MODELS
    if not sinks <= LABELLED:
        raise ConfigError(f"{name}: nothing with a label is written to logs", hint=f"sinks: {', '.join(LABELLED)}")
    if rule.direction == "in" and not sinks <= {"tool"}:
        raise ConfigError(f"{name}: only of tools is the label of what comes in known", hint="direction: out")
    return sinks


def _compiled(number: int, rule: GuardRule) -> Rule:
    name = f"guard.rules[{number}]"
    if number >= RULES_MAX:
        raise ConfigError(f"{name}: more than {RULES_MAX} rules")
    if not rule.find and not rule.label:
        raise ConfigError(f"{name}: a rule needs `find` or `label`", hint="find: [any] fits every finding")
    known = (*TYPES, PERSONAL, ANY)
    for word in rule.find:
        # Detectors' rules are many and grow with the manifest, so that only what looks like a type is checked.
        if word not in known and "_" not in word and ":" not in word and (near := nearest(word, known)):
            raise ConfigError(f"{name}.find: {word!r} is no type of finding", hint=near)
    sinks: frozenset[str] | None = frozenset(rule.sink) if rule.sink else None
    if rule.do == "allow" and {SECRET, ANY} & set(rule.find) and (sinks is None or sinks & STORED):
        hint = f"name sinks that store nothing; secrets are replaced in {', '.join(sorted(STORED))}"
        raise ConfigError(f"{name}: secrets are stored nowhere as they are", hint=hint)
    if rule.do == "tokenise" and (sinks is None or not sinks <= {"remote_model", "local_model"}):
        raise ConfigError(f"{name}: tokens are for models alone", hint="sink: [remote_model]; or do: mask")
    if rule.do == "route_local" and (sinks is None or "remote_model" not in sinks or "local_model" in sinks):
        raise ConfigError(f"{name}: `route_local` is said of remote models", hint="sink: [remote_model]")
    label = parse_label([rule.label], where=f"{name}.label") if rule.label else None
    find = frozenset(rule.find) if rule.find else None
    if find is None:
        sinks = _label_sinks(name, rule, sinks)
    # Neither says anything of what comes back from a model.
    direction = rule.direction or ("out" if rule.do in ("route_local", "tokenise") else "")
    return Rule(name, rule.do, find, label, sinks, rule.team, direction)
