"""What is given again: under which key, for how long, within which bounds. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.cache import (
    ENTRY_BYTES_MAX,
    CachedAnswer,
    CacheRule,
    ExactCache,
    cache_rule,
    exact_key,
    is_repeatable,
    keepable,
)
from roadbed.gateway.manifest import CacheConfig
from roadbed.gateway.types import (
    Answer,
    ChatRequest,
    JsonSchema,
    Message,
    Outcome,
    ReasoningPart,
    TextDelta,
    Tool,
    ToolCall,
)
from roadbed.kernel.label import PUBLIC, Label, Level
from roadbed.kernel.principal import Principal

RULE = CacheRule(exact_s=60.0, release="r1")
BASE = ChatRequest(messages=(Message("user", "hello"),), temperature=0)


def key(request: ChatRequest = BASE, rule: CacheRule = RULE, **changes: Any) -> bytes | None:
    principal = changes.pop("principal", Principal("k1", "team"))
    label = changes.pop("label", PUBLIC)
    may_unmask = changes.pop("may_unmask", True)
    return exact_key(rule, changes.pop("model", ["smart"]), request, principal, label, may_unmask=may_unmask)


def test_a_rule_is_made_of_what_the_manifest_asks_for() -> None:
    assert cache_rule(None, "r") is None
    assert cache_rule(CacheConfig(), "r") is None
    made = cache_rule(CacheConfig(exact="10m", stale="24h", any_temperature=True), "r", uses_knowledge=True)
    assert made == CacheRule(600.0, 86400.0, True, "r", True)
    assert made.keep_s == 86400.0
    assert cache_rule(CacheConfig(kind="semantic"), "r") == CacheRule(600.0, release="r", similarity=0.9)
    assert cache_rule(CacheConfig(exact="5m", kind="semantic", similarity=0.97), "r") == CacheRule(
        300.0, release="r", similarity=0.97
    )


def test_only_temperature_zero_is_repeatable_unless_the_rule_says_otherwise() -> None:
    assert is_repeatable(RULE, BASE)
    for temperature in (None, 0.5):
        varied = msgspec.structs.replace(BASE, temperature=temperature)
        assert not is_repeatable(RULE, varied)
        assert is_repeatable(CacheRule(exact_s=1.0, any_temperature=True), varied)


def test_everything_that_an_answer_depends_on_is_in_its_key() -> None:
    changed: list[bytes | None] = [
        key(),
        key(rule=msgspec.structs.replace(RULE, release="r2")),
        key(model=["smart", "b m2"]),
        key(principal=Principal("k1", "other")),
        key(label=Label(Level.CONFIDENTIAL)),
        key(may_unmask=False),
        *(
            key(msgspec.structs.replace(BASE, **{field: value}))
            for field, value in (
                ("messages", (Message("user", "hello "),)),
                ("messages", (Message("system", "hello"),)),
                ("tools", (Tool("f"),)),
                ("temperature", 1.0),
                ("top_p", 0.5),
                ("max_tokens", 5),
                ("stop", ("x",)),
                ("tool_choice", "none"),
                ("parallel_tool_calls", True),
                ("response_format", JsonSchema()),
                ("passthrough", {"seed": 7}),
            )
        ),
    ]
    assert None not in changed
    assert len(set(changed)) == len(changed)
    assert key(msgspec.structs.replace(BASE, passthrough={"user": "ann", "metadata": {"id": "1"}})) == key()


def test_another_view_of_documents_is_another_key_where_documents_or_tools_were_used() -> None:
    ann, bob = Principal("ann", "team"), Principal("bob", "team")
    assert key(principal=ann) == key(principal=bob)
    with_documents = msgspec.structs.replace(RULE, uses_knowledge=True)
    assert key(rule=with_documents, principal=ann) != key(rule=with_documents, principal=bob)
    with_tools = msgspec.structs.replace(BASE, tools=(Tool("f"),))
    assert key(with_tools, principal=ann) != key(with_tools, principal=bob)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=3), st.text(max_size=20))
def test_a_key_is_the_same_each_time_or_there_is_none(passthrough: dict[str, Any], text: str) -> None:
    request = ChatRequest(messages=(Message("user", text),), temperature=0, passthrough=passthrough)
    turned = msgspec.structs.replace(request, passthrough=dict(reversed(passthrough.items())))
    found = key(request)
    assert found == key(turned)
    assert found is None or len(found) == 32


def test_what_has_no_canonical_form_has_no_key() -> None:
    assert key(ChatRequest(messages=(Message("user", "\ud800"),))) is None
    assert key(msgspec.structs.replace(BASE, passthrough={"seed": 2**60})) is None


@pytest.mark.parametrize(
    "change",
    [
        {"finish_reason": "length"},
        {"finish_reason": None},
        {"tool_calls": [ToolCall("1", "f", "{}")]},
        {"refusal": "no"},
        {"text": ""},
        {"sealed": [ReasoningPart("anthropic", "", "seal")]},
        {"text": "x" * ENTRY_BYTES_MAX},
    ],
)
def test_only_a_whole_answer_in_words_is_kept(change: dict[str, Any]) -> None:
    whole = Outcome(endpoint="a", model="m", is_complete=True)
    fields: dict[str, Any] = {"text": "hello", "finish_reason": "stop"}
    kept = keepable(Answer(**fields), whole, 5.0)
    assert kept == CachedAnswer("hello", "", "a", "m", 5.0)
    assert TextDelta("hello") in kept.events()
    assert keepable(Answer(**(fields | change)), whole, 5.0) is None
    assert keepable(Answer(**fields), Outcome(is_complete=False), 5.0) is None


def entry(made_s: float, text: str = "x") -> CachedAnswer:
    return CachedAnswer(text, "", "a", "m", made_s)


def test_an_entry_has_an_age_for_each_use_and_an_end() -> None:
    cache = ExactCache()
    cache.put(b"k", entry(100.0), keep_s=60.0)
    assert cache.get(b"k", 109.0, 10.0) is not None
    assert cache.get(b"k", 110.0, 10.0) is None, "too old to stand in for a call"
    assert cache.get(b"k", 159.0, 60.0) is not None, "but not for an error"
    assert cache.get(b"k", 160.0, 1000.0) is None
    assert (len(cache), cache.size_bytes) == (0, 0)
    assert cache.get(b"other", 0.0, 1.0) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2000), st.booleans()), max_size=60))
def test_the_memory_is_bounded_by_number_and_size(steps: list[tuple[int, int, bool]]) -> None:
    cache = ExactCache(entries_max=4, bytes_max=8000)
    for number, length, is_read in steps:
        if is_read:
            cache.get(bytes([number]), 0.0, 1.0)
        else:
            cache.put(bytes([number]), entry(0.0, "x" * length), 60.0)
        assert len(cache) <= 4
        held = [cache.get(bytes([n]), 0.0, 1.0) for n in range(10)]
        assert cache.size_bytes == sum(found.size_bytes for found in held if found is not None) <= 8000


def test_the_least_used_goes_first() -> None:
    cache = ExactCache(entries_max=2)
    cache.put(b"a", entry(0.0), 60.0)
    cache.put(b"b", entry(0.0), 60.0)
    cache.get(b"a", 0.0, 1.0)
    cache.put(b"c", entry(0.0), 60.0)
    assert cache.get(b"b", 0.0, 1.0) is None
    assert cache.get(b"a", 0.0, 1.0) is not None
