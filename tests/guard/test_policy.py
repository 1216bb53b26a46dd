"""Where labels may flow."""

from __future__ import annotations

import pytest

from roadbed.guard.policy import may_flow, sink_for_endpoint
from roadbed.kernel.label import parse_label

LOCAL = sink_for_endpoint("ollama", is_local=True)
REMOTE = sink_for_endpoint("cloud", is_local=False, region="us")
TRUSTED = sink_for_endpoint("contract", is_local=False, labels=["confidential", "personal"], region="eu")


@pytest.mark.parametrize(
    ("words", "to_local", "to_remote", "to_trusted"),
    [
        (["public"], True, True, True),
        (["internal"], True, True, True),
        (["confidential"], True, False, True),
        (["restricted"], True, False, False),
        (["internal", "personal"], True, False, True),
        (["internal", "eu"], False, False, True),
        (["public", "unscanned"], False, False, False),
    ],
)
def test_flows(words: list[str], to_local: bool, to_remote: bool, to_trusted: bool) -> None:
    label = parse_label(words)
    assert (may_flow(label, LOCAL), may_flow(label, REMOTE), may_flow(label, TRUSTED)) == (
        to_local,
        to_remote,
        to_trusted,
    )


def test_tokens_let_personal_data_pass_but_no_higher_level() -> None:
    assert may_flow(parse_label(["internal", "personal"]), REMOTE, is_tokenised=True)
    assert not may_flow(parse_label(["confidential", "personal"]), REMOTE, is_tokenised=True)


def test_unscanned_media_needs_an_endpoint_that_says_so() -> None:
    vision = sink_for_endpoint("vision", is_local=True, labels=["unscanned"])
    assert not may_flow(parse_label(["unscanned"]), LOCAL)
    assert may_flow(parse_label(["unscanned"]), vision)
