"""The menu: the product's nouns in the order of work, each shown only when its page has something to show.

Whether there are traces or releases yet costs a query, so a yes is remembered for the life of the process; while the
database is away the last answer stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from roadbed.console.services import ConsoleServices
from roadbed.kernel.errors import DeadlineExceeded, Unavailable
from roadbed.kernel.principal import ADMIN, AUDITOR, Principal

TRACES_WITHIN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the menu. ``letter`` goes there after ``g``."""

    label: str
    path: str
    letter: str
    group: str = ""


OVERVIEW = Entry("Overview", "/console", "o")
ASK = Entry("Ask", "/console/ask", "a")
ANALYTICS = Entry("Analytics", "/console/analytics", "y")
DOCUMENTS = Entry("Documents", "/console/documents", "d", "Build")
MODELS = Entry("Models", "/console/models", "m", "Build")
PLAYGROUND = Entry("Playground", "/console/playground", "p", "Build")
TOOLS = Entry("Tools", "/console/tools", "w", "Build")
RELEASES = Entry("Releases", "/console/releases", "r", "Build")
TRACES = Entry("Traces", "/console/traces", "t", "Watch")
COSTS = Entry("Costs", "/console/costs", "c", "Watch")
KEYS = Entry("Keys", "/console/keys", "k", "Watch")
ACCESS = Entry("Access", "/console/access", "x", "Watch")
COMPLIANCE = Entry("Compliance", "/console/compliance", "e", "Watch")
AUDIT = Entry("Audit", "/console/audit", "u", "Watch")


def is_auditor(principal: Principal) -> bool:
    """Whether traces, keys and releases may be read; admins may do what auditors may."""
    return bool(principal.roles & {ADMIN, AUDITOR})


class Menu:
    """The menu of one process."""

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services
        self._has_traces = False
        self._has_documents = False

    async def entries(self, principal: Principal) -> list[Entry]:
        """What this caller sees."""
        services = self._services
        shown = [OVERVIEW]
        if any(services.may_use(principal, name) for name in services.apps()):
            shown.append(ASK)
        if services.analytics is not None and services.analytics.apps_for(principal):
            shown.append(ANALYTICS)
        if await self._documents():
            shown.append(DOCUMENTS)
        if is_auditor(principal) and services.gateway.routes:
            shown.append(MODELS)
        if any(services.may_use(principal, name) for name in services.gateway.routes):
            shown.append(PLAYGROUND)
        if services.tools is not None and services.tools.tools_for(principal):
            shown.append(TOOLS)
        if is_auditor(principal):
            if services.apps():
                shown.append(RELEASES)
            if await self._traces():
                shown += [TRACES, COSTS]
            if services.controls is not None:
                shown.append(COMPLIANCE)
            shown += [KEYS, *([ACCESS] if services.access is not None else []), AUDIT]
        return shown

    async def _documents(self) -> bool:
        if not self._has_documents:
            try:
                self._has_documents = bool(await self._services.knowledge.source_states())
            except (Unavailable, DeadlineExceeded):
                return False
        return self._has_documents

    async def _traces(self) -> bool:
        if not self._has_traces:
            try:
                self._has_traces = bool(await self._services.reader.traces(limit=1, within=TRACES_WITHIN))
            except (Unavailable, DeadlineExceeded):
                return False
        return self._has_traces
