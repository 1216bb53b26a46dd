"""When the same endpoint is tried once more, and how long all of them rest."""

from __future__ import annotations

import pytest

from roadbed.gateway.errors import UpstreamError
from roadbed.gateway.health import HealthBoard
from roadbed.kernel.retry import BUDGET_MAX

from .conftest import MovableClock


@pytest.fixture
def board(clock: MovableClock) -> HealthBoard:
    return HealthBoard(clock.monotonic_s, lambda: 0.5)


@pytest.mark.parametrize(
    ("failure", "rungs_left", "expected"),
    [
        (UpstreamError("fault", "x"), 1, 0.05),
        (UpstreamError("overload", "x", retry_after_s=0.3), 1, 0.3),
        (UpstreamError("fault", "x", status=404), 0, None),
        (UpstreamError("client", "x"), 0, None),
        (UpstreamError("timeout", "x"), 0, None),
        (UpstreamError("fault", "x", was_sent=False), 1, None),
        (UpstreamError("fault", "x", was_sent=False), 0, 0.05),
        (UpstreamError("rate", "x"), 0, None),
        (UpstreamError("rate", "x", retry_after_s=0.5), 1, 0.5),
        (UpstreamError("rate", "x", retry_after_s=1.5), 1, None),
        (UpstreamError("rate", "x", retry_after_s=1.5), 0, 1.5),
        (UpstreamError("rate", "x", retry_after_s=2.5), 0, None),
    ],
)
def test_a_second_try(board: HealthBoard, failure: UpstreamError, rungs_left: int, expected: float | None) -> None:
    assert board.retry_wait_s("a", failure, rungs_left=rungs_left, spare_s=2.0) == pytest.approx(expected)
    spent = BUDGET_MAX - board.of("a").retry_budget
    assert spent == (0.0 if expected is None else 1.0), "it is paid for once, and only when it is made"


def test_an_empty_budget_gives_no_second_try(board: HealthBoard) -> None:
    board.of("a").retry_budget = 0.5
    assert board.retry_wait_s("a", UpstreamError("fault", "x"), rungs_left=0, spare_s=2.0) is None


def refuse(board: HealthBoard, status: int) -> str:
    """One attempt that was refused; why the endpoint may not be asked any more."""
    admission = board.admit("a", has_alternative=True)
    assert admission is not None
    admission.failed(UpstreamError("auth", "it refused", status=status))
    return board.of("a").why_unavailable(board.monotonic_s())


def test_one_forbidden_request_takes_the_endpoint_from_nobody(board: HealthBoard, clock: MovableClock) -> None:
    for _ in range(5):
        assert [refuse(board, 403), refuse(board, 403)] == ["", ""]
        admission = board.admit("a", has_alternative=True)
        assert admission is not None
        admission.succeeded(0.1)
    assert [refuse(board, 403), refuse(board, 403)] == ["", ""]
    assert "3 requests in a row" in refuse(board, 403), "a key or a model that is forbidden is found out"
    clock.now_s += 31.0
    assert board.of("a").why_unavailable(clock.now_s) == ""


def test_a_key_that_is_not_known_rests_at_once(board: HealthBoard) -> None:
    assert "our key" in refuse(board, 401)


def test_the_first_endpoint_that_is_back(board: HealthBoard, clock: MovableClock) -> None:
    board.of("a").resting_until_s = clock.now_s + 9.0
    board.of("b").resting_until_s = clock.now_s + 4.0
    assert board.first_wait_s(["a", "b", "c"]) == 4.0
    assert board.first_wait_s(["c"]) is None
