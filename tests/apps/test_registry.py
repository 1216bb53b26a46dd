"""What serves is named after what serves, also when a newer release cannot be built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from roadbed.apps.registry import ROUTES, AppRegistry
from roadbed.apps.retrieval import Searcher
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.prices import shipped_prices
from roadbed.gateway.route import Route
from roadbed.guard.gate import Guard
from roadbed.kernel.release import Release


class Swapped:
    """Stands for the gateway: keeps the routes that it was given last."""

    def __init__(self) -> None:
        self.routes: Mapping[str, Route] = {}

    def swap(self, routes: Mapping[str, Route], guard: object) -> None:
        """Take the routes."""
        self.routes = routes


def a_release(digest: str, ladder: list[str]) -> Release:
    document: dict[str, Any] = {
        "routes": {"smart": {"ladder": ladder}},
        "endpoints": {"lab": {"type": "openai", "url": "http://127.0.0.1:9/v1", "model": "tiny"}},
    }
    return Release(ROUTES, digest, b"", document)


def test_routes_that_cannot_be_built_leave_the_ones_before_and_their_name(tmp_path: Path) -> None:
    gateway = Swapped()
    registry = AppRegistry(
        searcher=cast(Searcher, None),
        gateway=cast(Gateway, gateway),
        guard=lambda: cast(Guard, None),
        prices=shipped_prices(),
        folder=tmp_path,
    )
    good = a_release("good", ["lab"])
    registry.take({ROUTES: good})
    before = gateway.routes["smart"]
    registry.take({ROUTES: a_release("bad", ["nowhere"])})
    assert gateway.routes["smart"] is before
    assert registry.served.routes_release is good
    registry.take({ROUTES: a_release("better", ["lab"])})
    assert registry.served.routes_release is not good
    assert gateway.routes["smart"] is not before
