"""A control's keys are used when every process knows them, so that no refusal is taken for a rule that holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roadbed.guard.identity import Identity
from roadbed.server import canary_ground
from roadbed.server.canary_ground import CanaryGround, HttpCaller, NotServed, Parts
from roadbed.store.database import Database


class LateCaller(HttpCaller):
    """Processes that hear of a key only after so many requests."""

    def __init__(self, unknown: int) -> None:
        super().__init__()
        self.unknown = unknown

    async def call(self, method: str, path: str, body: Any = None, *, key: str) -> tuple[int, bytes]:
        self.unknown -= 1
        return (401 if self.unknown >= 0 else 200), b""


async def test_a_fresh_key_is_handed_out_when_it_is_known(database: Database, tmp_path: Path) -> None:
    async with Identity(database) as identity:
        caller = LateCaller(unknown=3)
        ground = CanaryGround(cast("Parts", SimpleNamespace(identity=identity)), caller, tmp_path)
        _, key = await ground.stranger()
        assert (await ground.call_as(key, "GET", "/v1/models"))[0] == 200


async def test_a_key_that_nobody_learns_of_is_said(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_ground, "SHOWN_S", 0.1)
    async with Identity(database) as identity:
        ground = CanaryGround(cast("Parts", SimpleNamespace(identity=identity)), LateCaller(unknown=1000), tmp_path)
        with pytest.raises(NotServed):
            await ground.stranger()
