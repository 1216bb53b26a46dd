"""``policies/tests.yaml``: what a workspace expects of its policies, decided without a server.

Decides as requests are decided: a key's list, a team's list, then the policies. It reads files alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.guard.access import ACTIONS, Access, Resource
from roadbed.guard.access_files import POLICY_FOLDER, TESTS_NAME
from roadbed.kernel.config import decode, read_yaml
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import LEVELS, Level
from roadbed.kernel.principal import MEMBER, Principal
from roadbed.releases.workspace import Workspace
from roadbed.server.admission import may_call

CASES_MAX = 10_000


class CaseCaller(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks, in a case."""

    team: str = "default"
    name: str = ""
    roles: list[Literal["member", "auditor", "admin"]] = []
    groups: list[str] = []
    apps: list[str] | None = None
    region: str = "local"
    clearance: Literal["public", "internal", "confidential", "restricted"] = "restricted"

    def principal(self) -> Principal:
        """The caller that decisions are made for."""
        return Principal(
            id=self.name or f"a member of {self.team}",
            team=self.team,
            name=self.name,
            roles=frozenset({MEMBER, *self.roles}),
            apps=frozenset(self.apps) if self.apps is not None else None,
            region=self.region,
            clearance=Level(LEVELS[self.clearance]),
            member_of=frozenset(self.groups),
        )


class CaseTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool as policies see it."""

    tool: str
    source: str = ""
    effect: Literal["read", "write", "irreversible", "send"] = "read"
    level: Literal["public", "internal", "confidential", "restricted"] = "public"


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One expectation. ``on`` names an app, a route or an endpoint; of a tool it says what policies see."""

    who: CaseCaller
    what: str
    expect: Literal["allow", "deny"]
    on: str | CaseTool = ""


class Cases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    cases: Annotated[list[Case], Meta(max_length=CASES_MAX)] = []


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case went. ``policies`` are those that decided."""

    case: Case
    line: int
    is_allowed: bool
    policies: tuple[str, ...]
    errors: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it is as expected, without a policy that failed."""
        return self.is_allowed == (self.case.expect == "allow") and not self.errors


def run_cases(workspace: Workspace) -> list[CaseResult]:
    """Decide every case of the workspace's file. Raises `ConfigError`."""
    shown = f"{POLICY_FOLDER}/{TESTS_NAME}"
    document = read_yaml(_path(workspace.folder), shown_as=shown)
    cases = decode(document, Cases).cases
    access = Access()
    access.take(workspace.policies)
    results = []
    for number, case in enumerate(cases):
        if case.what not in ACTIONS:
            hint = f"actions: {', '.join(sorted(ACTIONS))}"
            raise document.error(f"there is no action {case.what!r}", ("cases", number, "what"), hint=hint)
        principal = case.who.principal()
        decision = access.decide(principal, case.what, resource_of_case(workspace, case))
        is_allowed = decision.is_allowed and _is_within_lists(workspace, case, principal)
        line = document.line(("cases", number))
        results.append(CaseResult(case, line, is_allowed, decision.policies, decision.errors))
    return results


def resource_of_case(workspace: Workspace, case: Case) -> Resource:
    """What a case is about, as policies see it."""
    kind = ACTIONS[case.what][1]
    if isinstance(case.on, CaseTool):
        level = int(LEVELS[case.on.level])
        return Resource(
            "Tool", case.on.tool, (("source", case.on.source), ("effect", case.on.effect), ("level", level))
        )
    if kind == "App":
        app = workspace.manifest.apps.get(case.on)
        return Resource("App", case.on, (("kind", app.kind if app is not None else "release"),))
    if kind == "Tool":
        return Resource("Tool", case.on, (("source", ""), ("effect", "read"), ("level", 0)))
    return Resource(kind, workspace.manifest.name if kind == "Deployment" else case.on)


def _is_within_lists(workspace: Workspace, case: Case, principal: Principal) -> bool:
    if case.what not in ("app.use", "route.use") or not isinstance(case.on, str):
        return True
    team = workspace.manifest.teams.get(principal.team)
    apps = frozenset(team.apps) if team is not None and team.apps is not None else None
    return may_call(principal, case.on, apps)


def _path(folder: Path) -> Path:
    path = folder / POLICY_FOLDER / TESTS_NAME
    if not path.is_file():
        raise ConfigError(f"there is no {POLICY_FOLDER}/{TESTS_NAME}", hint="docs/access.md shows one to begin with")
    return path
