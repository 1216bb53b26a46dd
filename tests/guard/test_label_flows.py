"""Labels over random flows, against a reference lattice: nothing reaches a sink that any part of it may not reach."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.policy import may_flow, sink_for_endpoint, why_forbidden
from roadbed.kernel.label import CATEGORIES, PERSONAL, PUBLIC, Label, Level, Sink, join_labels, parse_label

REGIONS = ("eu", "us", "no")
LABELS = st.builds(
    Label,
    st.sampled_from(Level),
    st.frozensets(st.sampled_from(sorted(CATEGORIES))),
    st.none() | st.frozensets(st.sampled_from(REGIONS), min_size=1),
)
SINKS = st.builds(
    lambda is_local, words, region: sink_for_endpoint("x", is_local=is_local, labels=words, region=region),
    st.booleans(),
    st.lists(st.sampled_from(["internal", "confidential", "restricted", PERSONAL, "unscanned"]), max_size=3),
    st.sampled_from([*REGIONS, "outside"]),
)


def may_reach(part: Label, sink: Sink) -> bool:
    """The reference: one part alone, in words."""
    if part.regions is not None and sink.region not in part.regions:
        return False
    return int(part.level) <= int(sink.clearance) and all(category in sink.accepts for category in part.categories)


def illegal_flow(parts: list[Label], sinks: list[Sink]) -> bool:
    """Whether the join of the parts goes anywhere that one of them may not go, or is kept from where all may."""
    label = join_labels(parts)
    return any(may_flow(label, sink) != all(may_reach(part, sink) for part in parts) for sink in sinks)


@given(st.lists(LABELS, max_size=6), st.lists(SINKS, min_size=1, max_size=4))
def test_a_join_goes_exactly_where_each_of_its_parts_may(parts: list[Label], sinks: list[Sink]) -> None:
    assert not illegal_flow(parts, sinks)
    for sink in sinks:
        label = join_labels(parts)
        assert (why_forbidden(label, sink) == "") == may_flow(label, sink)
        if may_flow(label, sink, is_tokenised=True):
            assert may_flow(label.without_category(PERSONAL), sink)


@given(LABELS, LABELS, LABELS)
def test_joins_are_those_of_a_lattice(a: Label, b: Label, c: Label) -> None:
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.join(a) == a
    assert a.join(PUBLIC) == a
    if a.regions:
        assert parse_label(a.words()) == a


# What text passes through: chunks make prompts, prompts answers, answers and rows further prompts; a cache gives an
# answer again. Each step's label is the join of what went in, and what a caller says only raises it.
@given(
    st.lists(LABELS, min_size=1, max_size=5),
    st.lists(st.tuples(st.lists(st.integers(0, 30), min_size=1, max_size=4), LABELS), max_size=8),
    st.lists(SINKS, min_size=1, max_size=3),
)
def test_no_graph_of_steps_lets_anything_out(
    sources: list[Label], steps: list[tuple[list[int], Label]], sinks: list[Sink]
) -> None:
    labels = list(sources)
    origins = [frozenset({number}) for number in range(len(sources))]
    for inputs, said in steps:
        used = [number % len(labels) for number in inputs]
        labels.append(join_labels(labels[number] for number in used).join(said))
        origins.append(frozenset().union(*(origins[number] for number in used)))
    for label, origin in zip(labels, origins, strict=True):
        for sink in sinks:
            if may_flow(label, sink):
                assert all(may_reach(sources[number], sink) for number in origin)
