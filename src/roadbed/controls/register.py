"""`Controls`: runs the controls one at a time, keeps their evidence, and says how each stands.

In the owner of a deployment a task runs whatever is due; what is due follows from the stored evidence, so that a killed
process goes on where it was. Other processes only read. The invariant: a run ends within `RUN_S_MAX` with a result,
and a result that fails is told at once: to the log, a metric, the webhook, and every page of the console.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from roadbed.controls.control import FAILED, Control, Result, Standing, standing
from roadbed.controls.evidence import Evidence, EvidenceStore, Stamp, record_of
from roadbed.kernel.errors import DeadlineExceeded, NotFound, RoadbedError, Unavailable
from roadbed.kernel.memory import give_back_memory
from roadbed.ledger.metrics import Metrics

log = logging.getLogger("roadbed.controls")

RUN_S_MAX: Final = 240.0
FIRST_S: Final = 90.0
CALM_S_MAX: Final = 1800.0
CALM_LOOK_S: Final = 1.0
LOOK_S: Final = 30.0
INVALID_S: Final = 900.0
ORDERS_MAX: Final = 32
ORDER_LOOK_S: Final = 0.2
JITTER_SHARE: Final = 0.1
STANDING_KEPT_S: Final = 5.0


class UnknownControl(NotFound):
    """There is no control of that name."""

    code = "controls.unknown"
    hint = "`roadbed controls list` shows them"


class OwnerSilent(Unavailable):
    """The process that owns the deployment did not run a control in time."""

    code = "controls.owner_silent"
    hint = "look whether `roadbed up` still runs; it runs every control by its period"


class Recorder(Protocol):
    """What is needed of the audit."""

    async def act(self, action: str, principal_id: str, resource: str = "", **detail: Any) -> None:
        """Record an act; `AuditUnavailable`."""


Alarm = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Stands:
    """One control as it stands."""

    id: str
    title: str
    period_s: float
    standing: Standing
    last: Evidence | None

    @property
    def is_failed(self) -> bool:
        """Whether it failed, could not look, or has not looked for too long."""
        return self.standing in FAILED


class Controls:
    """The controls of one process. `start` in the owner alone."""

    def __init__(
        self,
        store: EvidenceStore,
        recorder: Recorder,
        alarm: Alarm,
        metrics: Metrics,
        stamp: Callable[[], Stamp],
    ) -> None:
        self.store = store
        self._recorder = recorder
        self._alarm = alarm
        self._metrics = metrics
        self._stamp = stamp
        self._controls: dict[str, Control] = {}
        self._known_since = datetime.now(UTC)
        self._one_at_a_time = asyncio.Lock()
        self._told: dict[str, Standing] = {}
        self._kept: tuple[float, list[Stands]] = (0.0, [])
        self._task: asyncio.Task[None] | None = None
        self._is_owner = False
        self._orders: set[asyncio.Task[Evidence]] = set()
        self._subscription: Any = None
        metrics.declare("roadbed_control_failed", "gauge", "1 while a control fails, is invalid or stale", "control")
        metrics.declare("roadbed_control_runs_total", "counter", "runs of controls", "control", "outcome")

    def use(self, controls: Sequence[Control]) -> None:
        """The controls that there are."""
        self._controls = {control.id: control for control in controls}

    @property
    def all(self) -> list[Control]:
        """The controls in their order."""
        return list(self._controls.values())

    async def start(self, is_calm: Callable[[], Awaitable[bool]], first_s: float = FIRST_S) -> None:
        """Run what is due from now on, and what other processes ask for.

        The first look is after ``first_s``, and waits until ``is_calm``, for `CALM_S_MAX` at most: a control that is
        to see a document read would call a first ingest, which all stands behind, a failure.
        """
        self._is_owner = True
        self._subscription = await self.store.on_order(self._ordered)
        self._task = asyncio.create_task(self._loop(is_calm, first_s), name="controls")
        self._task.add_done_callback(_report_crash)

    async def close(self) -> None:
        """Stop; a run under way is given up."""
        for task in self._orders:
            task.cancel()
        await asyncio.gather(*self._orders, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- running ------------------------------------------------------------------------------------------------------

    async def run(self, control_id: str) -> Evidence:
        """Run one control now, after the one that runs; in the owner, whoever asks. `UnknownControl`, `Unavailable`."""
        control = self._controls.get(control_id)
        if control is None:
            raise UnknownControl(f"there is no control {control_id[:100]!r}")
        if not self._is_owner:
            return await self._ask_owner(control)
        async with self._one_at_a_time:
            began = datetime.now(UTC)
            result = await _result_of(control)
            await asyncio.to_thread(give_back_memory)
            record = record_of(control, result, began, datetime.now(UTC), self._stamp())
            kept = await self.store.keep(record)
            await self._recorder.act(
                "controls.result", "system", control.id, result=result.outcome, digest=kept.digest, id=kept.id
            )
        self._metrics.add("roadbed_control_runs_total", (control.id, result.outcome))
        self._kept = (0.0, [])
        await self._tell(control.id, result.outcome, result.summary)
        return kept

    def _ordered(self, control_id: str | None) -> None:
        """Another process asks for a run."""
        if control_id in self._controls and len(self._orders) < ORDERS_MAX:
            task = asyncio.create_task(self.run(control_id), name=f"control {control_id}")
            self._orders.add(task)
            task.add_done_callback(self._order_ended)

    def _order_ended(self, task: asyncio.Task[Evidence]) -> None:
        self._orders.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s left no evidence (%s)", task.get_name(), type(error).__name__)

    async def _ask_owner(self, control: Control) -> Evidence:
        """Have the owner run a control, and wait for its evidence."""
        before = (await self.store.newest()).get(control.id)
        await self.store.order(control.id)
        deadline = time.monotonic() + RUN_S_MAX
        while time.monotonic() < deadline:
            last = (await self.store.newest()).get(control.id)
            if last is not None and (before is None or last.id != before.id):
                self._kept = (0.0, [])
                return last
            await asyncio.sleep(ORDER_LOOK_S)
        raise OwnerSilent(f"the process that owns the deployment did not run {control.id}")

    async def _loop(self, is_calm: Callable[[], Awaitable[bool]], first_s: float) -> None:
        await asyncio.sleep(first_s * random.uniform(1.0, 1.0 + JITTER_SHARE))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALM_S_MAX):
                await _until_calm(is_calm)
        while True:
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                newest = await self.store.newest()
                for control in self.all:
                    if is_due(control, newest.get(control.id)):
                        await self.run(control.id)
                for stands in await self.stand(is_fresh=True):
                    if stands.standing == "stale":
                        await self._tell(stands.id, "stale", "it has not run for two periods")
                await self.store.forget_old()
            await asyncio.sleep(LOOK_S)

    async def _tell(self, control_id: str, state: Standing, summary: str) -> None:
        """Set the metric, and alarm when it began to fail."""
        is_failed = state in FAILED
        self._metrics.set("roadbed_control_failed", 1.0 if is_failed else 0.0, (control_id,))
        before, self._told[control_id] = self._told.get(control_id), state
        if is_failed and before != state:
            await self._alarm("control_failed", f"{control_id}: {state}: {summary}")
        elif not is_failed and before in FAILED:
            log.warning("the control %s passes again", control_id)

    # -- standing -----------------------------------------------------------------------------------------------------

    async def stand(self, *, is_fresh: bool = False) -> list[Stands]:
        """How every control stands; read from the database at most every `STANDING_KEPT_S`."""
        read_at, kept = self._kept
        if kept and not is_fresh and time.monotonic() - read_at < STANDING_KEPT_S:
            return kept
        newest, now, found = await self.store.newest(), datetime.now(UTC), []
        for control in self.all:
            last = newest.get(control.id)
            state = standing(
                last.outcome if last is not None else None,  # type: ignore[arg-type]
                last.at if last is not None else None,
                control.period_s,
                now,
                self._known_since,
            )
            found.append(Stands(control.id, control.title, control.period_s, state, last))
        self._kept = (time.monotonic(), found)
        return found

    async def history(self, start: datetime | None, control: str = "") -> list[Evidence]:
        """Evidence since a time, oldest first."""
        return await self.store.since(start, control)

    async def failed(self) -> list[Stands]:
        """Those that do not hold; none while the database is away, which is told elsewhere."""
        try:
            return [stands for stands in await self.stand() if stands.is_failed]
        except (Unavailable, DeadlineExceeded):
            return []


async def _result_of(control: Control) -> Result:
    try:
        async with asyncio.timeout(RUN_S_MAX):
            return await control.run()
    except TimeoutError:
        return Result("invalid", f"it did not end within {RUN_S_MAX:.0f} s")
    except RoadbedError as error:
        return Result("invalid", f"it could not look: {error.code}")
    except Exception as error:
        log.exception("the control %s broke", control.id)
        return Result("invalid", f"it broke: {type(error).__name__}")


async def _until_calm(is_calm: Callable[[], Awaitable[bool]]) -> None:
    while True:
        with contextlib.suppress(Unavailable, DeadlineExceeded):
            if await is_calm():
                return
        await asyncio.sleep(CALM_LOOK_S)


def is_due(control: Control, last: Evidence | None) -> bool:
    """Whether a control is to run again: by its period, and soon where it could not look."""
    if last is None:
        return True
    # What could not look says nothing until it has looked: not for a week, where that is its period.
    period_s = min(control.period_s, INVALID_S) if last.outcome == "invalid" else control.period_s
    wait_s = period_s * random.uniform(1.0 - JITTER_SHARE, 1.0)
    return datetime.now(UTC) - last.at >= timedelta(seconds=wait_s)


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("controls are no longer run", exc_info=task.exception())
