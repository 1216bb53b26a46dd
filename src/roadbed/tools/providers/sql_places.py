"""The ``sql`` of a declared tool: ``:name`` places made parameters of the driver, arguments made values of theirs.

Pure; done once, when the manifest is taken. Text, quoted names, comments and casts are passed over, so a colon in them
is no place. The invariant: an argument reaches a database as a parameter and never as a part of a statement.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

from roadbed.sources.errors import QueryRefused
from roadbed.sources.mysql_text import placed
from roadbed.tools.errors import ArgumentsInvalid, ToolMisdeclared
from roadbed.tools.manifest import ParameterConfig

Style = Literal["postgres", "sqlite", "mysql", "duckdb"]

_PARTS = re.compile(
    r"""
      [eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | `[^`]*`
    | --[^\n]*
    | /\*.*?\*/
    | \$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$
    | ::
    | (?P<numbered>\$\d+|\?\d*)
    | (?<![\w:]):(?P<name>[A-Za-z_]\w*)
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
# Quotes and comments as `sources.mysql_text` reads them, which puts the values at the places.
_MYSQL_PARTS = re.compile(
    r"""
      '(?:[^'\\]|\\.|'')*+'
    | "(?:[^"\\]|\\.|"")*+"
    | `(?:[^`]|``)*+`
    | /\*.*?\*/
    | --(?=[\s\x00-\x1f]|\Z)[^\n]*+
    | \#[^\n]*+
    | (?P<numbered>\?)
    | (?<![\w:]):(?P<name>[A-Za-z_]\w*)
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_CASTS: dict[Style, dict[str, str]] = {
    "postgres": {
        "string": "text", "integer": "bigint", "number": "numeric", "boolean": "boolean", "date": "date",
        "timestamp": "timestamptz", "uuid": "uuid",
    },
    "duckdb": {
        "string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "date": "DATE",
        "timestamp": "TIMESTAMPTZ", "uuid": "UUID",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with numbered parameters. ``names`` are those of its places in the order of the numbers.

    MySQL's places have no numbers: a name stands as often as it has places.
    """

    text: str
    names: tuple[str, ...]

    def values(
        self, arguments: Mapping[str, Any], parameters: Mapping[str, ParameterConfig], style: Style
    ) -> list[Any]:
        """The driver's values of a call's arguments; what was left out has its default. `ArgumentsInvalid`."""
        return [
            _value(name, arguments.get(name, parameters[name].default), parameters[name].type, style)
            for name in self.names
        ]


def parse_statement(tool: str, sql: str, parameters: Mapping[str, ParameterConfig], style: Style) -> Statement:
    """The statement of a declared tool. `ToolMisdeclared` when places and parameters do not match."""
    names: list[str] = []
    body = sql.strip()
    while body.endswith(";"):
        body = body[:-1].rstrip()

    def place(match: re.Match[str]) -> str:
        if match["end"]:
            raise ToolMisdeclared(f"tools.{tool}.sql holds more than one statement", hint="declare a tool for each")
        if match["numbered"]:
            raise ToolMisdeclared(
                f"tools.{tool}.sql has the place {match['numbered']}", hint="write :name, and declare it"
            )
        name = match["name"]
        if name is None:
            return match[0]
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise ToolMisdeclared(f"tools.{tool}.sql has the place :{name}", hint=f"declared parameters: {known}")
        if name not in names or style == "mysql":
            names.append(name)
        number = names.index(name) + 1
        if style in _CASTS:
            return f"${number}::{_CASTS[style][parameters[name].type]}"
        return "?" if style == "mysql" else f"?{number}"

    text = (_MYSQL_PARTS if style == "mysql" else _PARTS).sub(place, body)
    if style == "mysql":
        try:
            placed(text, ["NULL"] * len(names))
        except QueryRefused as error:
            raise ToolMisdeclared(f"tools.{tool}.sql: {error.message}", hint=error.hint) from None
    unused = [name for name in parameters if name not in names]
    if unused:
        raise ToolMisdeclared(
            f"tools.{tool}: the parameter {unused[0]} is not used", hint=f"write :{unused[0]} in its sql, or drop it"
        )
    return Statement(text, tuple(names))


def schema_of(parameters: Mapping[str, ParameterConfig]) -> dict[str, Any]:
    """JSON Schema of the arguments."""
    properties: dict[str, Any] = {}
    for name, parameter in parameters.items():
        schema: dict[str, Any] = {"type": _JSON_TYPES.get(parameter.type, "string")}
        if parameter.type in _FORMATS:
            schema["format"] = _FORMATS[parameter.type]
        if not parameter.required:
            schema["type"] = [schema["type"], "null"]
        if parameter.description:
            schema["description"] = parameter.description
        if parameter.default is not None:
            schema["default"] = parameter.default
        for key, value in (("minimum", parameter.minimum), ("maximum", parameter.maximum)):
            if value is not None:
                schema[key] = int(value) if float(value).is_integer() else value
        if schema["type"] == "string" or "string" in schema["type"]:
            schema["maxLength"] = parameter.characters_max
        if parameter.pattern:
            schema["pattern"] = parameter.pattern
        if parameter.values:
            schema["enum"] = list(parameter.values) if parameter.required else [*parameter.values, None]
        properties[name] = schema
    required = [name for name, parameter in parameters.items() if parameter.required and parameter.default is None]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_JSON_TYPES = {"integer": "integer", "number": "number", "boolean": "boolean"}
_FORMATS = {"date": "date", "timestamp": "date-time", "uuid": "uuid"}


def _value(name: str, given: Any, kind: str, style: Style) -> Any:
    if given is None:
        return None
    convert = _VALUES[style][kind]
    try:
        return convert(given)
    except (ValueError, TypeError, ArithmeticError):
        raise ArgumentsInvalid(f"{name} is not a {kind}", hint=_EXAMPLES.get(kind, ""), param=name) from None


def _date(given: Any) -> date:
    return date.fromisoformat(str(given))


def _timestamp(given: Any) -> datetime:
    found = datetime.fromisoformat(str(given))
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _integer(given: Any) -> int:
    number = int(given)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


_EXAMPLES = {
    "date": "write 2026-03-31",
    "timestamp": "write 2026-03-31T12:00:00+02:00; without a zone it is UTC",
    "uuid": "write 6f9619ff-8b86-d011-b42d-00cf4fc964ff",
    "integer": "between -2^63 and 2^63",
}
_POSTGRES: dict[str, Callable[[Any], Any]] = {
    "string": str,
    "integer": _integer,
    "number": lambda given: Decimal(str(given)),
    "boolean": bool,
    "date": _date,
    "timestamp": _timestamp,
    "uuid": lambda given: uuid.UUID(str(given)),
}
_SQLITE: dict[str, Callable[[Any], Any]] = {
    "string": str,
    "integer": _integer,
    "number": float,
    "boolean": int,
    "date": lambda given: _date(given).isoformat(),
    "timestamp": lambda given: _timestamp(given).isoformat(),
    "uuid": lambda given: str(uuid.UUID(str(given))),
}
_MYSQL: dict[str, Callable[[Any], Any]] = {
    "string": str,
    "integer": _integer,
    "number": lambda given: Decimal(str(given)),
    "boolean": int,
    "date": _date,
    "timestamp": lambda given: _timestamp(given).astimezone(UTC).replace(tzinfo=None),  # the session's zone is UTC
    "uuid": lambda given: str(uuid.UUID(str(given))),
}
_DUCKDB: dict[str, Callable[[Any], Any]] = {**_SQLITE, "boolean": bool}
_VALUES: dict[Style, dict[str, Callable[[Any], Any]]] = {
    "postgres": _POSTGRES, "sqlite": _SQLITE, "mysql": _MYSQL, "duckdb": _DUCKDB,
}  # fmt: skip
