"""Each probe passes on a ground that keeps the rules, and fails on one that breaks the rule that it is there for."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

from roadbed.controls import canary_requests as paths
from roadbed.controls.probes import SEALED, CollectionAccess, Erased, Labels, Lockout
from roadbed.server.canary_objects import APPS, MODELS, SOURCES, STRANGERS, TEAM, with_books


class Ground:
    """A small deployment in memory. ``breaks`` names the rule that it does not keep."""

    def __init__(self, breaks: str = "") -> None:
        self.breaks = breaks
        self.heard: list[str] = []
        self.url = ""
        self.live = True
        self.texts: dict[str, str] = {}

    async def open(self, url: str) -> None:
        self.url = url

    async def close(self) -> None:
        self.texts.clear()

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        if self.breaks == "dead":
            return 503, b""
        if path == "/api/search":
            return 200, " ".join(self.texts.values()).encode()
        if path.startswith("/api/documents/"):
            return 200, self.texts.get(path.split("/")[3], "").encode()
        if body["model"] == SEALED:
            if self.breaks == "labels":
                self._ask("remote")
                return 200, b"{}"
            return 403, b'{"error": {}}'
        return 200, b"{}"

    def _ask(self, name: str) -> None:
        with urllib.request.urlopen(f"{self.url}/{name}/v1/chat/completions", b"{}", timeout=30) as response:
            response.read()

    async def call_as(self, key: str, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        if path == "/v1/models":
            return (200 if self.live or self.breaks == "lockout" else 401), b""
        if self.breaks == "access" and path == "/api/search":
            return 200, " ".join(self.texts.values()).encode()
        return 404, b""

    async def stranger(self) -> tuple[str, str]:
        return "k", "value"

    async def revoke(self, key_id: str) -> None:
        self.live = False

    async def add_document(self, name: str, text: str | bytes, media_type: str = "text/markdown") -> str:
        assert isinstance(text, str)
        self.texts["d1"] = text
        return "d1"

    async def state_of(self, document_id: str) -> str:
        return "indexed"

    def shows_secrets(self) -> bool:
        return False

    async def plant(self, text: str) -> None:
        """Not used by probes."""

    async def act(self, resource: str) -> None:
        """Not used by probes."""

    async def approve(self, who: str, note: str) -> None:
        """Not used by probes."""

    async def approve_call(self, approval_id: str) -> tuple[int, bytes]:
        """Not used by probes."""
        return 404, b""

    async def name_key(self, name: str) -> None:
        """Not used by probes."""

    async def name_group(self, name: str) -> tuple[int, bytes]:
        """Not used by probes."""
        return 404, b""

    async def keep_books(self, rows: list[tuple[str, str, int]]) -> None:
        """Not used by probes."""

    def note(self, resource: str, detail: str) -> None:
        """Not used by probes."""

    async def note_by_hand(self, text: str) -> None:
        """Not used by probes."""

    async def settle(self, requests: int) -> None:
        """Not used by probes."""


async def test_lockout() -> None:
    assert (await Lockout(Ground()).run()).outcome == "pass"
    assert (await Lockout(Ground("lockout")).run()).outcome == "fail"


async def test_labels() -> None:
    assert (await Labels(Ground()).run()).outcome == "pass"
    assert (await Labels(Ground("dead")).run()).outcome == "invalid"


async def test_collection_access() -> None:
    assert (await CollectionAccess(Ground()).run()).outcome == "pass"
    found = await CollectionAccess(Ground("access")).run()
    assert found.outcome == "fail"
    assert found.problems == ("another team sees it at POST /api/search",)


async def test_erasure() -> None:
    async def outcome(ground: Ground, *, forgets: bool = True, is_signed: bool = True) -> str:
        async def erase(subject: str) -> dict[str, Any]:
            if forgets:
                ground.texts["d1"] = "[ERASED]"
            return {"stores": {"documents": 1}}

        return (await Erased(ground, erase, lambda receipt: is_signed).run()).outcome

    assert await outcome(Ground()) == "pass"
    assert await outcome(Ground(), forgets=False) == "fail"
    assert await outcome(Ground(), is_signed=False) == "fail"


def test_the_canary_asks_its_own_objects_alone() -> None:
    names = (*MODELS, *APPS, *SOURCES, *with_books({}, Path()), paths.TOOL, TEAM, STRANGERS)
    assert all(name.startswith("_canary") for name in names)
