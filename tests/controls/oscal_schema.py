"""The rules of OSCAL 1.2's assessment results that our documents touch, as a JSON schema written from its reference.

Where the format lets an object have more members than we write, they are left out: what is not listed here is refused.
"""

from __future__ import annotations

from typing import Any

import jsonschema

UUID = r"^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[45][0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}$"
TIME = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]\d{2}:\d{2})$"


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "items": items}


_UUID, _TIME = _text(UUID), _text(TIME)
_TOKEN = _text(r"^[^\W\d][\w.\-]*\Z")
_STRING = _text(r"^\S(.*\S)?\Z")
_MARKUP = _text(r"\S")
_URI = _text(r"^[a-zA-Z][a-zA-Z0-9+\-.]+:.+\Z")
_PROPS = _list(_object({"name": _TOKEN, "value": _STRING}, {"ns": _URI, "class": _TOKEN, "uuid": _UUID}))
_CONTROLS = _list(_object({"control-id": _TOKEN}))
_SELECTION = _object(
    {},
    {"description": _MARKUP, "include-all": _object({}), "include-controls": _CONTROLS, "exclude-controls": _CONTROLS},
)
_OBSERVATION = _object(
    {
        "uuid": _UUID,
        "description": _MARKUP,
        "methods": _list({"enum": ["EXAMINE", "INTERVIEW", "TEST", "UNKNOWN"]}),
        "collected": _TIME,
    },
    {
        "title": _MARKUP,
        "types": _list(_TOKEN),
        "props": _PROPS,
        "expires": _TIME,
        "relevant-evidence": _list(_object({"description": _MARKUP}, {"href": _STRING, "props": _PROPS})),
    },
)
_STATUS = _object(
    {"state": {"enum": ["satisfied", "not-satisfied"]}}, {"reason": _TOKEN, "remarks": _MARKUP}
)  # the format knows the reasons pass, fail and other
_FINDING = _object(
    {
        "uuid": _UUID,
        "title": _MARKUP,
        "description": _MARKUP,
        "target": _object({"type": {"enum": ["statement-id", "objective-id"]}, "target-id": _TOKEN, "status": _STATUS}),
    },
    {"related-observations": _list(_object({"observation-uuid": _UUID}))},
)
_RESULT = _object(
    {
        "uuid": _UUID,
        "title": _MARKUP,
        "description": _MARKUP,
        "start": _TIME,
        "reviewed-controls": _object({"control-selections": _list(_SELECTION)}),
    },
    {"end": _TIME, "observations": _list(_OBSERVATION), "findings": _list(_FINDING)},
)
SCHEMA = _object(
    {
        "assessment-results": _object(
            {
                "uuid": _UUID,
                "metadata": _object(
                    {"title": _MARKUP, "last-modified": _TIME, "version": _STRING, "oscal-version": _STRING},
                    {"remarks": _MARKUP},
                ),
                "import-ap": _object({"href": _text(r"^#?\S+\Z")}, {"remarks": _MARKUP}),
                "results": _list(_RESULT),
            },
            {
                "back-matter": _object(
                    {}, {"resources": _list(_object({"uuid": _UUID}, {"title": _MARKUP, "description": _MARKUP}))}
                )
            },
        )
    }
)


def faults_of(document: dict[str, Any]) -> list[str]:
    """What a document breaks: of the schema, and of what it cannot say: ids are unique, and what they name is there."""
    faults = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)
    ]
    if faults:
        return faults
    results = document["assessment-results"]
    given = [*_ids(document)]
    faults += [f"{one} stands twice" for one in set(given) if given.count(one) > 1]
    resources = {one["uuid"] for one in results.get("back-matter", {}).get("resources", ())}
    href = results["import-ap"]["href"]
    if not href.startswith("#") or href[1:] not in resources:
        faults.append(f"import-ap refers to {href}, which is no resource")
    for result in results["results"]:
        seen = {one["uuid"] for one in result.get("observations", ())}
        related = [one["observation-uuid"] for f in result.get("findings", ()) for one in f["related-observations"]]
        faults += [f"{one} is no observation" for one in related if one not in seen]
        if "end" in result and result["end"] < result["start"]:
            faults.append("a result ends before it starts")
    return faults


def _ids(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["uuid"]] if "uuid" in value else []
        return own + [one for part in value.values() for one in _ids(part)]
    return [one for part in value for one in _ids(part)] if isinstance(value, list) else []
