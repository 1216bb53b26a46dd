"""Alias moves over any history: what serves, what waits, and what a rollback holds."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from roadbed.releases.moves import CANDIDATE, LIVE, RETIRE, Alias, Step, plan_promote, plan_rollback, plan_save

digests = st.sampled_from(["d1", "d2", "d3"])


class AliasMachine(RuleBasedStateMachine):
    """One app's aliases beside a model of what a user expects."""

    def __init__(self) -> None:
        super().__init__()
        self.aliases: dict[tuple[str, str], Alias] = {}
        self.is_held = False
        self.live: str | None = None
        self.saved: str | None = None

    def apply(self, steps: list[Step]) -> None:
        for step in steps:
            if step.digest is None:
                assert step.action == RETIRE
                del self.aliases[(step.app, step.name)]
            else:
                self.aliases[(step.app, step.name)] = Alias(step.digest, step.is_held)

    @rule(digest=digests, auto_promote=st.booleans())
    def save(self, digest: str, auto_promote: bool) -> None:
        self.apply(plan_save(self.aliases, {"a": digest}, auto_promote=auto_promote))
        self.saved = digest
        if self.live is None or (auto_promote and not self.is_held):
            self.live = digest

    @rule(digest=digests)
    def promote(self, digest: str) -> None:
        if self.live is not None:
            self.apply(plan_promote(self.aliases, "a", digest))
            self.live, self.is_held = digest, False

    @rule(digest=digests)
    def rollback(self, digest: str) -> None:
        if self.live is not None:
            before = self.live
            self.apply(plan_rollback(self.aliases, "a", digest))
            self.live, self.is_held = digest, True
            assert before == digest or ("a", CANDIDATE) in self.aliases, "a promotion ends the hold"

    @rule()
    def leave_the_workspace(self) -> None:
        self.apply(plan_save(self.aliases, {}, auto_promote=True))
        self.live, self.is_held, self.saved = None, False, None
        assert not self.aliases

    @invariant()
    def live_is_what_the_user_expects(self) -> None:
        live = self.aliases.get(("a", LIVE))
        assert (live.digest if live else None) == self.live
        if live is not None:
            assert live.is_held == self.is_held

    @invariant()
    def saving_again_changes_nothing(self) -> None:
        if self.saved is not None and self.live is not None:
            again = plan_save(self.aliases, {"a": self.saved}, auto_promote=False)
            candidate = self.aliases.get(("a", CANDIDATE))
            if candidate is not None and candidate.digest == self.saved != self.live:
                assert not again


TestAliases = AliasMachine.TestCase
TestAliases.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_a_candidate_goes_away_when_the_workspace_is_back_at_what_is_live() -> None:
    aliases = {("a", LIVE): Alias("d1"), ("a", CANDIDATE): Alias("d2")}
    assert plan_save(aliases, {"a": "d1"}, auto_promote=False) == [Step("a", CANDIDATE, None, RETIRE)]
