"""What the owner of serving processes does when the system gives it none."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roadbed.ledger.metrics import Metrics
from roadbed.server.link import WorkerLost
from roadbed.server.restarts import CRASHES_MAX
from roadbed.server.services import Services
from roadbed.server.workers import Workers
from roadbed.wire.server import bind

PATIENCE_S = 60.0


def services() -> Any:
    return SimpleNamespace(
        settings=SimpleNamespace(tls_cert=None, workers=1),
        metrics=Metrics(),
        ledger=SimpleNamespace(adopt_spools=lambda: None),
        trail=SimpleNamespace(audit=SimpleNamespace(adopt_spools=lambda: None)),
        source_connections=lambda: (),
        deployment=lambda running: running,
    )


async def test_a_process_that_cannot_be_started_is_tried_again_before_the_whole_ends() -> None:
    made = services()
    with contextlib.closing(bind("127.0.0.1", 0)) as listener:
        workers = Workers(cast(Services, made), listener, "http://a", ("/nonexistent/program",))
        with pytest.raises(WorkerLost, match="cannot be started"):
            async with asyncio.timeout(PATIENCE_S):
                await workers.serve()
    assert made.metrics.value("roadbed_worker_restarts_total") == CRASHES_MAX - 1


async def test_that_none_can_stand_ready_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(bind("127.0.0.1", 0)) as listener:
        workers = Workers(cast(Services, services()), listener, "http://a", ("/nonexistent/program",))
        await workers._keep_spare()
        workers._seats.close()
    assert "stand ready" in caplog.text
