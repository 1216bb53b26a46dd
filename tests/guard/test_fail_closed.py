"""The guard down, or over its limit, means refuse: at each sink, whatever part of it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from roadbed.guard.detect import Detector
from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig, RecognizerConfig
from roadbed.guard.patterns import AT
from roadbed.guard.recognizer import RecognizerMissing
from roadbed.guard.vault import Vault
from roadbed.kernel.label import PUBLIC

TEXT = "by Ada Byron, who lives here"
Sink = Callable[[Guard, str], object]

LEAVING: dict[str, Sink] = {
    "remote model": lambda guard, text: guard.for_model(text, PUBLIC, is_local=False, vault=Vault()),
    "remote embedder": lambda guard, text: guard.for_embedder(text, PUBLIC, is_local=False),
    "export": lambda guard, text: guard.for_export(text),
    "tool's argument": lambda guard, text: guard.for_tool(text, PUBLIC, is_sent=True),
}
KEEPING: dict[str, Callable[[Guard, str], str]] = {
    "record": lambda guard, text: guard.for_record(text).text,
    "record, cut": lambda guard, text: guard.for_record(text, characters_max=10).text,
    "log": lambda guard, text: guard.for_log(text).text,
}
ALL: dict[str, Sink] = {
    **LEAVING,
    **KEEPING,
    "index": lambda guard, text: guard.for_index(text, PUBLIC),
    "index with map": lambda guard, text: guard.for_index_with_map(text, PUBLIC),
    "local model": lambda guard, text: guard.for_model(text, PUBLIC, is_local=True, vault=Vault()),
    "local embedder": lambda guard, text: guard.for_embedder(text, PUBLIC, is_local=True),
    "tool's result": lambda guard, text: guard.for_tool(text, PUBLIC, is_sent=False),
    "label": lambda guard, text: guard.label_of(text),
    "body": lambda guard, text: guard.scan_bytes(text.encode()),
    "sent": lambda guard, text: guard.scan_sent(text),
    "stream to records": lambda guard, text: _streamed(guard.stream_for_record(), text),
    "stream without secrets": lambda guard, text: _streamed(guard.stream_without_secrets(), text),
}


def _streamed(stream: object, text: str) -> str:
    feed, finish = stream.feed, stream.finish  # type: ignore[attr-defined]
    return "".join(feed(piece) for piece in text) + str(finish())


class BrokenEngine:
    """Fails at every text but the one that it is warmed up with."""

    name = "broken"

    def hits(self, view: str) -> list[tuple[int, int]]:
        raise MemoryError("no scratch")


class WrongEngine:
    """Points where no value can be, so that a reader fails."""

    name = "wrong"

    def hits(self, view: str) -> list[tuple[int, int]]:
        return [(AT, "here")]  # type: ignore[list-item]


@pytest.mark.parametrize("sink", ALL.values(), ids=ALL)
@pytest.mark.parametrize("engine", [BrokenEngine, WrongEngine])
def test_a_detector_that_fails_lets_nothing_through(engine: type[BrokenEngine | WrongEngine], sink: Sink) -> None:
    with pytest.raises((MemoryError, TypeError)):
        sink(Guard(Detector(engine=engine())), TEXT)


class Broken:
    """Fails."""

    def find(self, text: str) -> Iterable[tuple[str, int, int]]:
        raise RuntimeError("no model")


class Late:
    """Does not answer in time."""

    freed = threading.Event()

    def find(self, text: str) -> Iterable[tuple[str, int, int]]:
        self.freed.wait(60)
        return []


class Outside:
    """Names a span that is not in the text."""

    def find(self, text: str) -> Iterable[tuple[str, int, int]]:
        return [("person", 0, len(text) + 1)]


@pytest.fixture(params=["Broken", "Late", "Outside"])
def unread(request: pytest.FixtureRequest) -> Iterator[Guard]:
    """A guard whose recognizer is required and does not answer."""
    Late.freed.clear()
    yield _guard(request.param, is_required=True)
    Late.freed.set()
    for thread in threading.enumerate():
        if thread.name == "recognizer":
            thread.join(60)


def _guard(name: str, *, is_required: bool) -> Guard:
    return Guard(Detector(), GuardConfig(recognizer=RecognizerConfig(f"{__name__}:{name}", 20, is_required)))


@pytest.mark.parametrize("sink", LEAVING.values(), ids=LEAVING)
def test_what_a_required_recognizer_did_not_read_does_not_leave(unread: Guard, sink: Sink) -> None:
    with pytest.raises(RecognizerMissing):
        sink(unread, TEXT)


@pytest.mark.parametrize("sink", KEEPING.values(), ids=KEEPING)
def test_what_a_required_recognizer_did_not_read_is_recorded_nowhere(
    unread: Guard, sink: Callable[[Guard, str], str]
) -> None:
    kept = sink(unread, TEXT)
    assert "[SECRET]".startswith(kept)
    assert kept
    assert sink(unread, "") == ""


def test_where_it_is_not_required_the_rest_goes_on() -> None:
    guard = _guard("Broken", is_required=False)
    for sink in LEAVING.values():
        sink(guard, TEXT)
    assert guard.for_record(TEXT).text == TEXT
