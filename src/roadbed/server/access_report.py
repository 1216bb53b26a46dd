"""Why a caller may or may not do something: ``/api/access/explain``, and what it says for the command line and console.

Asks the same objects that decide for requests, and decides nothing itself. The invariant: `allowed` here is what the
caller would meet, as each check that decides is asked in turn.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.routing import Route

from roadbed.guard.access import ACTIONS, Resource
from roadbed.guard.keys import KeyRefused
from roadbed.kernel.errors import InvalidRequest, NotFound
from roadbed.kernel.principal import AUDITOR, MEMBER, Principal
from roadbed.server.acts import resource_of
from roadbed.server.admission import Admission
from roadbed.server.http import endpoint
from roadbed.server.services import Services
from roadbed.server.teams import tool_resource
from roadbed.tools.regions import is_across
from roadbed.tools.types import Tool

WHO_CHARACTERS_MAX: Final = 200


class UnknownCaller(NotFound):
    """No key or person has this id or name."""

    code = "access.unknown_caller"
    hint = "name a key's id or name, a person's, or team:NAME for a member of a team; `roadbed keys list` shows keys"


class UnknownAction(InvalidRequest):
    """Policies know no such action."""

    code = "access.unknown_action"
    hint = f"actions: {', '.join(sorted(ACTIONS))}"


def access_routes(services: Services) -> list[Route]:
    """The address."""

    async def explain(request: Request, admission: Admission) -> Any:
        given = request.query_params
        who, what, on = (given.get(name, "")[:WHO_CHARACTERS_MAX] for name in ("who", "what", "on"))
        return explain_access(services, await caller_named(services, who), what, on)

    return [Route("/api/access/explain", endpoint(services, explain, role=AUDITOR))]


async def caller_named(services: Services, who: str) -> Principal:
    """The caller whom somebody means by an id, a name, or ``team:NAME``. Raises `UnknownCaller`."""
    kind, _, name = who.partition(":")
    if kind == "team" and name:
        team, _, role = name.partition("/")
        return Principal(id=f"a member of {team}", team=team, roles=frozenset({MEMBER, role or MEMBER}))
    try:
        return services.identity.principal_of(who)
    except KeyRefused:
        pass
    found = [principal for principal in services.identity.principals() if principal.name == who]
    if len(found) != 1:
        raise UnknownCaller(f"{'several callers are' if found else 'nobody is'} named {who[:100]!r}")
    return found[0]


def explain_access(services: Services, principal: Principal, what: str, on: str) -> dict[str, Any]:
    """Every check of one act in turn. Raises `UnknownAction`, `InvalidRequest`."""
    if what not in ACTIONS:
        raise UnknownAction(f"there is no action {what[:60]!r}", param="what")
    checks, resource = _checks(services, principal, what, on)
    access = services.teams.access
    decision = access.explain(principal, what, resource)
    needed: list[str] = [check["needed"] for check in checks if not check["allows"]]
    if access.is_own or ACTIONS[what][0] != "use":
        checks.append(_policy_check(access.is_own, decision))
        if not decision.is_allowed:
            needed += [f"what the policy {name} asks for: {access.text_of(name)}" for name in decision.could]
            needed += [f"that {name} does not forbid it: {access.text_of(name)}" for name in decision.policies]
            needed += decision.errors
    return {
        "who": {"id": principal.id, "name": principal.name, "team": principal.team, "roles": sorted(principal.roles)},
        "what": what,
        "on": f"{resource.type}:{resource.id}",
        "allowed": all(check["allows"] for check in checks),
        "checks": checks,
        "needed": needed,
    }


def _checks(services: Services, principal: Principal, what: str, on: str) -> tuple[list[dict[str, Any]], Resource]:
    teams = services.teams
    if what == "tool.call":
        tool = next((tool for tool in services.toolbox.all_tools() if tool.name == on), None)
        if tool is None:
            raise InvalidRequest(f"there is no tool {on!r}", param="on", hint="`roadbed tools list` shows them")
        return _tool_checks(tool, principal, teams.region_of(principal.team)), tool_resource(tool)
    if ACTIONS[what][0] != "use":
        return [], resource_of(teams, what, on)
    if not on:
        raise InvalidRequest(f"{what} is done on an app or route", param="on")
    resource, apps = teams.resource_of(on), teams.apps_of(principal.team)
    if resource.type != ACTIONS[what][1]:
        raise InvalidRequest(f"{on} is no {ACTIONS[what][1].lower()}", param="on")
    checks = [
        _check("key", principal.id, principal.may_use(on), f"a key that may call {on}"),
        _check(
            "team",
            principal.team,
            apps is None or on in apps or principal.is_admin,
            f"{on} in teams.{principal.team}.apps, or a key of another team",
        ),
    ]
    return checks, resource


def _tool_checks(tool: Tool, principal: Principal, region: str) -> list[dict[str, Any]]:
    is_cleared = tool.label.level <= principal.clearance
    is_shown = tool.visible_to is None or principal.team in tool.visible_to
    return [
        _check("clearance", principal.id, is_cleared, f"clearance {tool.label.level.name.lower()}"),
        _check("team", principal.team, is_shown, f"a team of {', '.join(sorted(tool.visible_to or ()))}"),
        _check("region", principal.team, not is_across(tool.label, region), f"a team in {_regions(tool)}"),
    ]


def _regions(tool: Tool) -> str:
    return " or ".join(sorted(tool.label.regions or ())) or "any region"


def _check(kind: str, name: str, allows: bool, needed: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "allows": allows, "needed": "" if allows else needed}


def _policy_check(is_own: bool, decision: Any) -> dict[str, Any]:
    name = ", ".join(decision.policies) or ("no policy permits it" if not decision.errors else "a policy failed")
    found = _check("policy", name, decision.is_allowed, "")
    return found if is_own else {**found, "kind": "role"}
