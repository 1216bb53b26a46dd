"""Analytics in a deployment: what it is made of, its turns outside ``/v1``, and saving what was answered.

`open_analytics` wires desk, saved questions and schedules; `Analytics` runs turns on the same path as every app, for
``/api`` and the console. The invariant: statements are run or saved only by name, or with the seal of the app's own
answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from roadbed.apps.analytics import AnalyticsApp
from roadbed.apps.analytics_desk import Desk, Prepared
from roadbed.apps.analytics_saved import Saved, SavedQuestion
from roadbed.apps.analytics_shown import AnalyticsAnswer
from roadbed.apps.registry import AppRegistry, ServedApp
from roadbed.apps.types import Answered, AnswerEvent, App, Turn
from roadbed.gateway.types import ChatRequest, Message
from roadbed.guard.finding import SECRET
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import Forbidden, InvalidRequest, RoadbedError
from roadbed.kernel.principal import Principal
from roadbed.ledger.ledger import Ledger
from roadbed.server.entrance import Entrance, NoLimits
from roadbed.server.money import Money
from roadbed.server.served_tools import ServedTools
from roadbed.server.teams import Teams
from roadbed.server.turns import TurnTimedOut, begin_turn, facts_of, run_turn
from roadbed.store.database import Database

log = logging.getLogger("roadbed.server")


class NotAnalytics(InvalidRequest):
    """The app is of another kind than ``analytics``."""

    code = "apps.not_analytics"
    hint = "name an app of the kind analytics"


class SealInvalid(Forbidden):
    """The statements are not those that the app answered this team with."""

    code = "apps.seal_invalid"
    hint = "send `prepared` and `seal` as they came with the answer, or ask again"


class SecretInQuestion(InvalidRequest):
    """The statements that were to be saved hold a secret; what is saved is read by the whole team."""

    code = "apps.secret_in_question"
    hint = "ask without it, and save that"


class _Fixed:
    """An app that answers a turn in one given way."""

    def __init__(self, answer: Callable[[Turn], AsyncGenerator[AnswerEvent, None]]) -> None:
        self._answer = answer

    def answer(self, turn: Turn) -> AsyncGenerator[AnswerEvent, None]:
        """The given way."""
        return self._answer(turn)


@dataclass(slots=True)
class Analytics:
    """The analytics apps of one process."""

    registry: AppRegistry
    teams: Teams
    ledger: Ledger
    saved: Saved
    desk: Desk
    entrance: Callable[[], Entrance | NoLimits]

    def served(self, app: str, principal: Principal) -> tuple[ServedApp, AnalyticsApp]:
        """The app that serves. `UnknownModel`, `AppNotAllowed`, `NotPermitted`, `NotAnalytics`."""
        served = self.registry.find_app(app, principal)
        self.teams.require_app(principal, app)
        if not isinstance(served.app, AnalyticsApp):
            raise NotAnalytics(f"{app} is of the kind {served.config.kind}")
        return served, served.app

    def apps_for(self, principal: Principal) -> list[str]:
        """The analytics apps that a caller may use."""
        return [
            name
            for name, served in self.registry.served.apps.items()
            if served.config.kind == "analytics" and self.teams.may_call(principal, name)
        ]

    async def ask(
        self, app: str, messages: Sequence[Message], principal: Principal, deadline: Deadline | None = None
    ) -> AnalyticsAnswer:
        """Ask in words."""
        served, _ = self.served(app, principal)
        return await self._turn(served, messages, principal, deadline)

    async def run(
        self,
        app: str,
        name: str,
        given: Mapping[str, Any],
        principal: Principal,
        deadline: Deadline | None = None,
        *,
        is_export: bool = False,
    ) -> AnalyticsAnswer:
        """Run a declared or saved question by its name; ``is_export`` where a file is made of what comes."""
        served, kind = self.served(app, principal)
        fixed = replace(served, app=_Fixed(lambda turn: kind.run(turn, name, given)))
        return await self._turn(fixed, (), principal, deadline, is_export=is_export)

    async def run_prepared(
        self,
        app: str,
        prepared: Prepared,
        seal: str,
        principal: Principal,
        deadline: Deadline | None = None,
        *,
        is_export: bool = False,
    ) -> AnalyticsAnswer:
        """Run what the app answered with before; ``is_export`` as in `run`. `SealInvalid`."""
        served, kind = self.served(app, principal)
        self._check_seal(app, prepared, seal, principal)
        fixed = replace(served, app=_Fixed(lambda turn: kind.run_prepared(turn, prepared)))
        return await self._turn(fixed, (), principal, deadline, is_export=is_export)

    async def save(
        self, app: str, name: str, prepared: Prepared, seal: str, principal: Principal, every: str = ""
    ) -> None:
        """Save what the app answered with, for the caller's team. `SealInvalid`, `SecretInQuestion`."""
        served, _ = self.served(app, principal)
        self._check_seal(app, prepared, seal, principal)
        if SECRET in self.desk.guard().scan_bytes(msgspec.json.encode((name, prepared))):
            raise SecretInQuestion("the question holds a secret", param="prepared")
        if name in served.config.questions:
            raise InvalidRequest(f"{name} is a declared question", hint="choose another name", param="name")
        await self.saved.save(app, name, prepared, principal, every)

    async def questions(self, app: str, principal: Principal) -> tuple[ServedApp, list[SavedQuestion]]:
        """The app, with its declared questions in its configuration, and the team's saved ones."""
        served, _ = self.served(app, principal)
        return served, await self.saved.listed(app, principal)

    async def delete(self, app: str, name: str, principal: Principal) -> None:
        """Forget a saved question of the caller's team. `UnknownQuestion`."""
        self.served(app, principal)
        await self.saved.delete(app, name, principal)

    def _check_seal(self, app: str, prepared: Prepared, seal: str, principal: Principal) -> None:
        if not self.desk.is_sealed(app, principal, prepared, seal):
            raise SealInvalid("the seal does not fit the statements")

    async def _turn(
        self,
        served: ServedApp,
        messages: Sequence[Message],
        principal: Principal,
        deadline: Deadline | None,
        *,
        is_export: bool = False,
    ) -> AnalyticsAnswer:
        deadline = deadline or Deadline.after(served.deadline_s)
        request = ChatRequest(messages=tuple(messages))
        entrance, ticket = self.entrance(), None
        if entrance.is_on:
            size = sum(len(message.text()) for message in messages)
            ticket, _ = entrance.let_in(size, principal, served.name, served)
        turn = begin_turn(self.ledger, served, request, principal, deadline)
        if ticket is not None:
            ticket.join(turn.trace)
        answered: Answered | None = None
        try:
            way = run_turn(self.ledger, served, turn, self.teams.guard)
            async with asyncio.timeout(deadline.remaining_s()), aclosing(way) as events:
                async for event in events:
                    if isinstance(event, Answered):
                        answered = event
        except TimeoutError:
            raise TurnTimedOut(f"{served.name} did not answer within its deadline") from None
        if answered is None:
            raise RoadbedError("the app ended without an answer")
        if is_export:
            self.teams.guard.check_label(turn.trace.label, "export", principal.team)
        return AnalyticsAnswer(answered.text, facts_of(turn, answered), answered.extra.get("table"))


class Opened(Protocol):
    """What `open_analytics` needs of the services that were opened before."""

    database: Database
    tools: ServedTools
    teams: Teams
    registry: AppRegistry
    ledger: Ledger
    money: Money


async def open_analytics(stack: AsyncExitStack, services: Opened, *, is_owner: bool) -> Analytics:
    """Wire it into the registry, and run schedules where this process owns the deployment."""
    tools, teams, registry = services.tools, services.teams, services.registry
    desk = Desk(
        tools.sources,
        tools.databases,
        lambda: teams.guard,
        tools.key,
    )

    def find(app: str) -> App | None:
        served = registry.served.apps.get(app)
        return served.app if served is not None else None

    saved = Saved(services.database, lambda: desk, find, teams.may_call)
    registry.desk, registry.saved_questions = desk, saved
    if is_owner:
        await saved.start()
        stop = asyncio.Event()
        task = asyncio.create_task(saved.jobs.run(stop), name="analytics-schedules")
        task.add_done_callback(_report_end)

        async def close() -> None:
            stop.set()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(close)
    return Analytics(registry, teams, services.ledger, saved, desk, lambda: services.money.entrance)


def _report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("schedules are no longer run: saved questions keep their last results", exc_info=task.exception())
