"""Labels, secrets, guarded text, ids and deadlines: the values that every room shares."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, DeadlineExceeded, RoadbedError, all_errors
from roadbed.kernel.guarded import Guarded, make_guarded
from roadbed.kernel.ids import is_id, ms_of, new_id
from roadbed.kernel.label import CATEGORIES, PERSONAL, PUBLIC, Label, Level, Sink, join_labels, parse_label
from roadbed.kernel.principal import Principal
from roadbed.kernel.secrets import Secret, resolve_secret

regions = st.one_of(st.none(), st.frozensets(st.sampled_from(["eu", "us", "no"])))
labels = st.builds(Label, st.sampled_from(Level), st.frozensets(st.sampled_from(sorted(CATEGORIES))), regions)
sinks = st.builds(Sink, st.just("s"), st.sampled_from(Level), st.frozensets(st.sampled_from(sorted(CATEGORIES))))


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


@given(labels, labels, labels)
def test_joining_labels_is_a_semilattice(a: Label, b: Label, c: Label) -> None:
    assert a.join(b) == b.join(a)
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.join(a) == a
    assert a.join(PUBLIC) == a


@given(st.lists(labels, max_size=4), sinks)
def test_a_join_flows_nowhere_that_one_part_may_not(parts: list[Label], sink: Sink) -> None:
    if join_labels(parts).may_flow_to(sink):
        assert all(part.may_flow_to(sink) for part in parts)


def test_labels_are_parsed_from_words() -> None:
    label = parse_label(["confidential", "eu", PERSONAL])
    assert label == Label(Level.CONFIDENTIAL, frozenset({PERSONAL}), frozenset({"eu"}))
    assert label.words() == ["confidential", "personal", "region:eu"]
    with pytest.raises(ConfigError):
        parse_label(["very secret!"])


def test_a_secret_is_never_shown() -> None:
    secret = Secret("hunter2-hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {secret:>20}"
    assert secret.equals("hunter2-hunter2")
    assert not secret.equals("hunter2-hunter3")
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_secrets_are_resolved_from_files_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.setenv("ROADBED_TEST_SECRET", "from the environment")
    assert resolve_secret("file:key", base=tmp_path).reveal() == "from a file"
    assert resolve_secret("env:ROADBED_TEST_SECRET").reveal() == "from the environment"
    for reference in ("env:ROADBED_TEST_UNSET", "file:missing", "sk-not-a-reference"):
        with pytest.raises(ConfigError):
            resolve_secret(reference, base=tmp_path)


def test_guarded_text_is_made_by_the_guard_alone_and_never_shown() -> None:
    with pytest.raises(TypeError):
        Guarded()
    guarded = make_guarded("the text itself", sink="log")
    assert "text itself" not in f"{guarded!r} {guarded}"
    with pytest.raises(TypeError):
        pickle.dumps(guarded)


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [new_id() for _ in range(1000)]
    assert [ms_of(new_id(ms)) for ms in (0, 1023, 1_790_000_000_123)] == [0, 1023, 1_790_000_000_123]
    assert len(set(ids)) == 1000
    assert all(map(is_id, ids))
    assert [i[:9] for i in ids] == sorted(i[:9] for i in ids)


def test_a_deadline_is_a_point_that_shares_cannot_pass() -> None:
    clock = FakeClock()
    deadline = Deadline.after(10, clock)
    half = deadline.share(0.5)
    assert half.at_s == 105.0
    assert deadline.share(0.9, at_most_s=1).at_s == 101.0
    assert deadline.reserving(2).at_s == 108.0
    clock.now_s = 106.0
    assert half.has_passed()
    assert half.remaining_s() == 0
    assert not deadline.has_passed()
    with pytest.raises(DeadlineExceeded):
        half.check("thinking")


def test_a_principal_sees_by_team_and_key() -> None:
    principal = Principal("k1", "support", apps=frozenset({"helpdesk"}))
    assert principal.groups == {"everyone", "team:support", "key:k1"}
    assert principal.may_use("helpdesk")
    assert not principal.may_use("other")
    assert not principal.is_admin


def test_every_error_has_a_code_and_a_page() -> None:
    errors = all_errors()
    assert len({error.code for error in errors}) == len(errors) > 10
    for error in errors:
        assert error.__doc__, error
        assert 400 <= error.http_status < 600, error
    problem = RoadbedError("it broke", hint="mend it").problem()
    assert problem["detail"] == "it broke"
    assert problem["hint"] == "mend it"
