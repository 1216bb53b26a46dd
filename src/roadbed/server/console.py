"""The console's view of a running deployment: the same objects, and a turn runner that shares the path of ``/v1``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from roadbed import __version__
from roadbed.apps.registry import ServedApp
from roadbed.apps.types import AnswerEvent
from roadbed.console.services import AskedTurn, ConsoleServices
from roadbed.gateway.types import ChatRequest, Message
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.ledger.usage_report import UsageRange, UsageReport, report
from roadbed.server.acts import require_act
from roadbed.server.console_access import ConsoleAccess
from roadbed.server.console_tools import ConsoleTools
from roadbed.server.health import parts
from roadbed.server.services import Services
from roadbed.server.trial_data import TrialData
from roadbed.server.tries import try_route
from roadbed.server.turns import begin_turn, run_turn


class _Usage:
    """Usage and budgets, as the page of costs asks for them."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def report(self, by: Sequence[str], within: UsageRange) -> UsageReport:
        """The sums of a range."""
        return await report(self._services.database, by, within)

    async def budgets(self) -> list[dict[str, Any]]:
        """The budgets of the running period."""
        return await self._services.money.bank.standing()


def console_services(services: Services, url: str) -> ConsoleServices:
    """What the pages show and do, over one deployment."""

    def may_use(principal: Principal, app: str) -> bool:
        return services.teams.may_call(principal, app)

    def ask(app: str, messages: Sequence[Message], principal: Principal) -> AskedTurn:
        served = services.registry.find_app(app, principal)
        services.teams.require_app(principal, app)
        request = ChatRequest(messages=tuple(messages))
        entrance, ticket, answering = services.money.entrance, None, served
        if entrance.is_on:
            size = sum(len(message.text()) for message in messages)
            ticket, target = entrance.let_in(size, principal, app, served)
            assert isinstance(target, ServedApp)
            answering = target
        turn = begin_turn(services.ledger, answering, request, principal, Deadline.after(served.deadline_s))
        if ticket is not None:
            ticket.join(turn.trace)

        async def events() -> AsyncGenerator[AnswerEvent, None]:
            answer = run_turn(services.ledger, answering, turn, services.teams.guard)
            async with aclosing(answer), aclosing(services.running.while_live(principal, answer)) as live:
                async for event in live:
                    yield event

        return AskedTurn(turn.trace.id, turn.release.digest, events(), served.deadline_s)

    def apps() -> Mapping[str, ServedApp]:
        return dict(services.apps_in_order())

    def process() -> tuple[int, int]:
        return (services.serving.number if services.serving is not None else 1), services.settings.workers

    return ConsoleServices(
        name=services.manifest.name,
        version=__version__,
        url=url,
        identity=services.identity,
        sessions=services.sessions,
        knowledge=services.knowledge,
        reader=services.reader,
        usage=_Usage(services),
        releases=services.releases,
        gateway=services.gateway,
        apps=apps,
        may_use=may_use,
        ask=ask,
        parts=lambda: parts(services),
        problem=services.problem,
        engines=services.engines.found,
        connections=services.source_connections,
        order_endpoint=services.order_endpoint,
        try_route=partial(try_route, services),
        process=process,
        oidc=services.mcp.oidc,
        require_act=partial(require_act, services.teams),
        audit=services.trail,
        behind_proxy=services.settings.behind_proxy,
        tools=ConsoleTools(services),
        controls=services.controls,
        analytics=services.analytics,
        access=ConsoleAccess(services),
        trial=TrialData(services),
        teams=lambda: sorted(services.manifest.teams),
    )
