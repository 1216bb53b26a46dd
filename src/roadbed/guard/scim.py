"""SCIM 2.0 (RFC 7643, RFC 7644) without HTTP or a database: filters, patches, and the shapes of users and groups.

What directories really send is taken: operations in capitals, booleans as text, patches without a path, a path of a
schema's URN, removals with a value. What cannot be understood is refused, never guessed. The invariant: a patch is
applied whole or not at all, to a copy.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from roadbed.kernel.errors import Conflict, InvalidRequest

USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
PATCH: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
OPERATIONS_MAX: Final = 1_000
VALUES_MAX: Final = 20_000
TEXT_CHARACTERS_MAX: Final = 1_000
PAGE_MAX: Final = 200
SERVED: Final = frozenset({"id", "meta", "groups", "schemas", "password"})  # not the directory's to say, or not kept
NAMES: Final = (
    "active", "displayName", "emails", "externalId", "members", "name", "nickName", "phoneNumbers", "preferredLanguage",
    "title", "userName", "userType", "value", "type", "givenName", "familyName", "formatted", "primary", "display",
    "department", "employeeNumber", "manager", "organization", "division", "costCenter", "locale", "timezone",
    "addresses", "roles", "profileUrl", "entitlements", "ims", "photos", "x509Certificates", "middleName",
    "honorificPrefix", "honorificSuffix", "streetAddress", "locality", "region", "postalCode", "country",
)  # fmt: skip
KEPT: Final = frozenset({"userName", "externalId", "active", "displayName", "name", "emails", "members"})
"""What is kept: what names a person, links them to their tokens, and switches them. All else is dropped as it comes."""
KEPT_PARTS: Final = {"name": ("formatted", "givenName", "familyName"), "emails": ("value", "type", "primary")}
EMAILS_MAX: Final = 20
_CANONICAL: Final = {name.lower(): name for name in (*NAMES, *SERVED)}
_FILTER = re.compile(r'^\s*([A-Za-z][\w.:-]*)\s+eq\s+("(?:[^"\\]|\\.)*"|true|false)\s*$', re.IGNORECASE)
_PATH = re.compile(
    r'^([A-Za-z][\w-]*)(?:\[\s*([A-Za-z][\w]*)\s+eq\s+("(?:[^"\\]|\\.)*"|true|false)\s*\])?(?:\.([A-Za-z][\w]*))?$',
    re.IGNORECASE,
)


class ScimInvalid(InvalidRequest):
    """A SCIM request cannot be understood: its filter, path, operation or value. ``kind`` is RFC 7644's scimType."""

    code = "scim.invalid"
    hint = "RFC 7644 says what a request looks like; docs/access.md which parts are served"

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class ScimTaken(Conflict):
    """Another user has this userName, or another group this displayName."""

    code = "scim.uniqueness"
    hint = "find it with a filter, and change it instead"
    kind = "uniqueness"


@dataclass(frozen=True, slots=True)
class Filter:
    """``attribute eq value``."""

    attribute: str
    value: str


def parse_filter(text: str, known: Mapping[str, str]) -> Filter:
    """A filter on one of the ``known`` attributes, by their lower-case names. `ScimInvalid`."""
    found = _FILTER.match(text[:TEXT_CHARACTERS_MAX])
    attribute = known.get(_without_schema(found.group(1)).lower()) if found is not None else None
    if found is None or attribute is None:
        raise ScimInvalid(f"filters are `ATTRIBUTE eq VALUE` on {', '.join(sorted(known.values()))}", "invalidFilter")
    return Filter(attribute, _unquoted(found.group(2)))


def parse_boolean(value: Any) -> bool:
    """A boolean, also as the text that some directories send. `ScimInvalid`."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ScimInvalid("active is true or false", "invalidValue")


def checked(resource: Any, *, is_user: bool) -> dict[str, Any]:
    """A resource as a directory sent it, with its names as the standard writes them, less what is not its to say."""
    if not isinstance(resource, dict):
        raise ScimInvalid("a resource is a JSON object", "invalidSyntax")
    found = {_canonical(name): value for name, value in resource.items()}
    found = {name: value for name, value in found.items() if name not in SERVED and value is not None}
    name = "userName" if is_user else "displayName"
    if not isinstance(found.get(name), str) or not found[name].strip() or len(found[name]) > TEXT_CHARACTERS_MAX:
        raise ScimInvalid(f"{name} is needed", "invalidValue")
    for text in ("externalId", "displayName"):
        if not isinstance(found.get(text, ""), str) or len(found.get(text, "")) > TEXT_CHARACTERS_MAX:
            raise ScimInvalid(f"{text} is a text", "invalidValue")
    if "active" in found:
        found["active"] = parse_boolean(found["active"])
    if not is_user:
        found["members"] = member_ids(found.get("members", []))
    return kept(found)


def kept(resource: Mapping[str, Any]) -> dict[str, Any]:
    """What of a resource is stored: no telephone number, address, title, department or extension of a directory."""
    found = {name: value for name, value in resource.items() if name in KEPT}
    if "name" in found:
        found["name"] = _parts(found["name"], KEPT_PARTS["name"])
    if "emails" in found:
        entries = found["emails"] if isinstance(found["emails"], list) else []
        found["emails"] = [part for one in entries[:EMAILS_MAX] if (part := _parts(one, KEPT_PARTS["emails"]))]
    return {name: value for name, value in found.items() if value not in ({}, []) or name == "members"}


def _parts(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    found = {_canonical(str(name)): one for name, one in value.items()}
    return {name: one for name, one in found.items() if name in names and isinstance(one, str | bool)}


def texts_of(resource: Mapping[str, Any]) -> Iterator[str]:
    """Every text of a kept resource, for whoever looks at them."""
    for value in resource.values():
        entries = value if isinstance(value, list) else [value]
        for one in entries:
            yield from (str(part) for part in (one.values() if isinstance(one, dict) else [one]))


def member_ids(value: Any) -> list[str]:
    """The ids of members, from a list of ``{value}``. `ScimInvalid`."""
    values = value if isinstance(value, list) else [value]
    found = [one.get("value") if isinstance(one, dict) else one for one in values]
    ids = [one for one in found if isinstance(one, str)]
    if len(found) > VALUES_MAX or len(ids) != len(found):
        raise ScimInvalid("members are objects with the `value` of a user", "invalidValue")
    return list(dict.fromkeys(ids))


def patched(resource: Mapping[str, Any], body: Any) -> dict[str, Any]:
    """A copy of a resource with a PatchOp applied. `ScimInvalid`."""
    given = {str(name).lower(): value for name, value in body.items()} if isinstance(body, dict) else {}
    operations = given.get("operations")
    if not isinstance(operations, list) or not 0 < len(operations) <= OPERATIONS_MAX:
        raise ScimInvalid(f"a patch holds 1 to {OPERATIONS_MAX} Operations", "invalidSyntax")
    found = copy.deepcopy(dict(resource))
    for operation in operations:
        if not isinstance(operation, dict):
            raise ScimInvalid("an operation is an object", "invalidSyntax")
        parts = {str(name).lower(): value for name, value in operation.items()}
        verb = str(parts.get("op", "")).lower()
        if verb not in ("add", "replace", "remove"):
            raise ScimInvalid("op is add, replace or remove", "invalidSyntax")
        path, value = parts.get("path"), parts.get("value")
        if path is not None:
            _apply(found, verb, path, value)
        elif verb == "remove" or not isinstance(value, dict):
            raise ScimInvalid("an operation without a path has an object as its value", "noTarget")
        else:
            for name, one in value.items():
                _apply(found, verb, name, one)
    return found


def _apply(resource: dict[str, Any], verb: str, path: Any, value: Any) -> None:
    """One operation on one path, in place."""
    if isinstance(path, str) and path.lower() == ENTERPRISE.lower() and isinstance(value, dict):
        resource[ENTERPRISE] = {**resource.get(ENTERPRISE, {}), **value}
        return
    target = resource
    if isinstance(path, str) and path.lower().startswith(f"{ENTERPRISE.lower()}:"):
        target = resource.setdefault(ENTERPRISE, {})
    found = _PATH.match(_without_schema(path)) if isinstance(path, str) else None
    if found is None or len(str(path)) > TEXT_CHARACTERS_MAX:
        raise ScimInvalid("a path is ATTRIBUTE, ATTRIBUTE.PART or ATTRIBUTE[PART eq VALUE].PART", "invalidPath")
    name, key, wanted, part = (_canonical(one) if one else "" for one in found.groups())
    wanted = _unquoted(found.group(3)) if found.group(3) else ""
    if name in SERVED:
        return
    if key:
        _apply_to_entries(target, verb, (name, key, wanted, part), value)
    elif part:
        held = target.setdefault(name, {})
        if not isinstance(held, dict):
            raise ScimInvalid(f"{name} has no parts", "invalidPath")
        _set(held, verb, part, value)
    elif name == "members":
        target[name] = _members(target.get(name, []), verb, value)
    elif name == "active" and verb != "remove":
        target[name] = parse_boolean(value)
    else:
        _set(target, verb, name, value)


def _apply_to_entries(target: dict[str, Any], verb: str, where: tuple[str, str, str, str], value: Any) -> None:
    """An operation on those entries of a list that a filter in its path picks."""
    name, key, wanted, part = where
    entries = target.get(name, [])
    if name == "members":
        if key != "value" or verb != "remove":
            raise ScimInvalid('members are picked to be removed, by `members[value eq "..."]`', "invalidPath")
        target[name] = [one for one in entries if one != wanted]
        return
    entries = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    picked = [one for one in entries if str(one.get(key, "")).lower() == wanted.lower()]
    if verb == "remove" and not part:
        target[name] = [one for one in entries if one not in picked]
        return
    if not picked and verb != "remove":
        picked = [{key: wanted}]
        entries = [*entries, *picked]
    for one in picked:
        if part:
            _set(one, verb, part, value)
        elif isinstance(value, dict):
            one.update(value)
    target[name] = entries


def _set(target: dict[str, Any], verb: str, name: str, value: Any) -> None:
    if verb == "remove":
        target.pop(name, None)
    elif verb == "add" and isinstance(target.get(name), list) and isinstance(value, list):
        target[name] = [*target[name], *(one for one in value if one not in target[name])]
    elif isinstance(value, dict) and isinstance(target.get(name), dict):
        target[name] = {**target[name], **{_canonical(part): one for part, one in value.items()}}
    else:
        target[name] = value


def _members(held: list[str], verb: str, value: Any) -> list[str]:
    given = member_ids(value) if value is not None else []
    if verb == "replace":
        return given
    if verb == "add":
        return list(dict.fromkeys([*held, *given]))
    return [one for one in held if value is not None and one not in given]


def _without_schema(path: str) -> str:
    """A path less the URN of its schema."""
    if path.lower().startswith("urn:"):
        return path.rpartition(":")[2]
    return path


def _canonical(name: str) -> str:
    if name.lower().startswith("urn:"):
        return ENTERPRISE if name.lower() == ENTERPRISE.lower() else name
    return _CANONICAL.get(name.lower(), name)


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text.lower()
    return re.sub(r"\\(.)", r"\1", text[1:-1])
