"""`Access`: who may do what, by Cedar policies over callers, actions and resources.

One per process; the workspace's texts come through `take`. Without policies of a workspace's own nobody is asked here:
keys, teams and roles decide (`is_own` is false). The invariants: a decision allows only where Cedar says Allow and no
policy failed (a `forbid` that fails is skipped by Cedar, so its failure is taken for a refusal); and a remembered
decision was made of the same policies, caller and resource, as all three are its key.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from roadbed.guard.access_files import DEFAULT_NAME, POLICY_FOLDER, default_text, parsed_schema
from roadbed.kernel.errors import Forbidden
from roadbed.kernel.principal import Principal

REMEMBERED_MAX: Final = 20_000
CALLERS_MAX: Final = 1_000
SHIPPED: Final = "shipped"
# Every action: the group that it is in, and the type of what it acts on, as the schema has them.
ACTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "app.use": ("use", "App"),
    "route.use": ("use", "Route"),
    "tool.call": ("use", "Tool"),
    "audit.read": ("watch", "Deployment"),
    "trace.read": ("watch", "Deployment"),
    "deployment.read": ("watch", "Deployment"),
    "keys.manage": ("manage", "Deployment"),
    "people.manage": ("manage", "Deployment"),
    "release.promote": ("manage", "App"),
    "approval.decide": ("manage", "Deployment"),
    "endpoint.order": ("manage", "Endpoint"),
    "document.change": ("manage", "Deployment"),
    "erase": ("manage", "Deployment"),
    "deployment.change": ("manage", "Deployment"),
    "breakglass": ("", "Deployment"),
}


class NotPermitted(Forbidden):
    """The workspace's policies do not permit this."""

    code = "auth.not_permitted"
    hint = "`roadbed access explain WHO WHAT ON` says which policy decides, and what would be needed"


@dataclass(frozen=True, slots=True)
class Resource:
    """What is acted on, with the attributes that the schema knows of its type."""

    type: str
    id: str
    attributes: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class AccessDecision:
    """How policies decide, by the names of those that did. ``could`` are permits that other callers have."""

    is_allowed: bool
    policies: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    could: tuple[str, ...] = ()


class Access:
    """The policies that serve in this process."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._set: Any = None
        self._policies: list[_Named] = []
        self._remembered: dict[tuple[Principal, str, Resource], bool] = {}
        self._known_callers: dict[Principal, Any] = {}  # every action, and one caller, as Cedar has them parsed

    @property
    def is_own(self) -> bool:
        """Whether the workspace has policies of its own, so that they must be asked."""
        return bool(self._texts)

    @property
    def texts(self) -> Mapping[str, str]:
        """The workspace's own policies by file name."""
        return self._texts

    def take(self, texts: Mapping[str, str]) -> None:
        """Decide by these, which `check_policies` let pass, from now on."""
        if self._set is not None and dict(texts) == self._texts:
            return
        chosen = dict(texts)
        sets = {SHIPPED: default_text(), **chosen} if DEFAULT_NAME not in chosen else chosen
        parsed, policies = _parsed(sets) if chosen else (None, [])
        self._texts, self._set, self._policies = chosen, parsed, policies
        self._remembered = {}

    def allows(self, principal: Principal, action: str, resource: Resource) -> bool:
        """Whether the policies permit it; remembered until they change."""
        key = (principal, action, resource)
        known = self._remembered.get(key)
        if known is None:
            known = self.decide(principal, action, resource).is_allowed
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[key] = known
        return known

    def decide(self, principal: Principal, action: str, resource: Resource) -> AccessDecision:
        """How the policies decide now, the shipped set where there are no others."""
        import cedarpy

        if self._set is None:
            self._set, self._policies = _parsed({SHIPPED: default_text()})
        entities = self._known_callers.get(principal)
        if entities is None:
            entities = _actions().with_added_json_str(_caller_json(principal))
            if len(self._known_callers) >= CALLERS_MAX:
                self._known_callers.clear()
            self._known_callers[principal] = entities
        if resource.attributes:
            entities = entities.with_added_json_str(_resource_json(resource))
        request = {
            "principal": {"type": "Caller", "id": principal.id},
            "action": {"type": "Action", "id": action},
            "resource": {"type": resource.type, "id": resource.id},
        }
        found = cedarpy.is_authorized(request, self._set, entities, parsed_schema())
        diagnostics = found.diagnostics
        errors = tuple(str(error)[:300] for error in diagnostics.errors)
        is_allowed = found.decision is cedarpy.Decision.Allow and not errors
        return AccessDecision(is_allowed, tuple(map(self._name, diagnostics.reasons)), errors)

    def explain(self, principal: Principal, action: str, resource: Resource) -> AccessDecision:
        """As `decide`; where nothing permits it, with the permits that would for another caller."""
        decision = self.decide(principal, action, resource)
        if decision.is_allowed or decision.policies or decision.errors:
            return decision
        could = tuple(policy.name for policy in self._policies if policy.is_permit and policy.names(action))
        return AccessDecision(False, could=could)

    def text_of(self, name: str) -> str:
        """The text of one policy by its name, as Cedar formats it; empty when there is none."""
        return next((policy.text for policy in self._policies if policy.name == name), "")

    def _name(self, policy_id: str) -> str:
        """``policy7`` by its ``@id``, or its file and place."""
        number = policy_id.removeprefix("policy")
        return self._policies[int(number)].name if number.isdigit() else policy_id


@dataclass(frozen=True, slots=True)
class _Named:
    """One policy of the set: what it is called, and what can be said of it without evaluating it."""

    name: str
    is_permit: bool
    actions: frozenset[str] | None
    text: str

    def names(self, action: str) -> bool:
        """Whether its head lets the action in."""
        return self.actions is None or not self.actions.isdisjoint({action, ACTIONS.get(action, ("", ""))[0]})


def _parsed(texts: Mapping[str, str]) -> tuple[Any, list[_Named]]:
    """One set of all files, and its policies in their order."""
    import cedarpy

    policies: list[_Named] = []
    for file, text in texts.items():
        found = msgspec.json.decode(cedarpy.policies_to_json_str(text))["staticPolicies"]
        shown = file if file == SHIPPED else f"{POLICY_FOLDER}/{file}"
        for number in range(len(found)):
            policy = found[f"policy{number}"]
            name = str((policy.get("annotations") or {}).get("id") or f"{shown}#{number + 1}")
            as_set = msgspec.json.encode({"staticPolicies": {"policy0": policy}, "templates": {}, "templateLinks": []})
            policies.append(_Named(name, policy["effect"] == "permit", _actions_of(policy), _text_of(as_set.decode())))
    return cedarpy.PolicySet.from_str("\n".join(texts.values())), policies


def _text_of(as_set: str) -> str:
    import cedarpy

    return str(cedarpy.policies_from_json_str(as_set)).strip()


def _actions_of(policy: Mapping[str, Any]) -> frozenset[str] | None:
    """The actions and groups of actions that a policy's head names; None for any."""
    scope = policy["action"]
    if scope["op"] == "All":
        return None
    entities = scope.get("entities") or [scope["entity"]]
    return frozenset(str(entity["id"]) for entity in entities)


# What follows is made without the schema: attributes are made here, and holding each against it takes a seventh of a
# decision. What an entity lacks that has neither attributes nor parents is nothing: it need not be there.


@functools.cache
def _actions() -> Any:
    """Every action with its group."""
    import cedarpy

    found = [
        {"uid": {"type": "Action", "id": name}, "attrs": {}, "parents": [{"type": "Action", "id": group}]}
        for name, (group, _) in ACTIONS.items()
        if group
    ]
    return cedarpy.Entities.from_json_str(msgspec.json.encode(found).decode())


def _caller_json(principal: Principal) -> str:
    caller = {
        "uid": {"type": "Caller", "id": principal.id},
        "attrs": {
            "name": principal.name,
            "team": principal.team,
            "region": principal.region,
            "clearance": int(principal.clearance),
        },
        "parents": [
            {"type": "Team", "id": principal.team},
            *({"type": "Role", "id": role} for role in principal.roles),
            *({"type": "Group", "id": group} for group in principal.member_of),
        ],
    }
    return msgspec.json.encode([caller]).decode()


def _resource_json(resource: Resource) -> str:
    uid = {"type": resource.type, "id": resource.id}
    return msgspec.json.encode([{"uid": uid, "attrs": dict(resource.attributes), "parents": []}]).decode()
