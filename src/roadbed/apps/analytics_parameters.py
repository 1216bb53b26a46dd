"""The ``:name`` places of a declared question, filled with literals before the gate reads the statement. Pure.

The gate takes no driver's parameters, and every other statement of an analytics app passes it too; so a value becomes
one quoted literal of its type. The invariant: a value is one literal whatever characters it holds, or it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from roadbed.kernel.errors import InvalidRequest
from roadbed.sources.catalogue import SqlDialect
from roadbed.tools.arguments import checker_of
from roadbed.tools.manifest import ParameterConfig
from roadbed.tools.providers.sql_places import PARTS, schema_of, value_of

_QUOTED_TYPES = {"date": "DATE", "timestamp": "TIMESTAMP"}


class ParameterInvalid(InvalidRequest):
    """A value for a question's parameter is missing, of another type, or cannot be written as a literal."""

    code = "apps.parameter_invalid"


def check_values(parameters: Mapping[str, ParameterConfig], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run, defaults filled in. `ArgumentsInvalid` names the parameter."""
    converted = {name: _typed(given[name], parameters.get(name)) for name in given}
    checker_of(schema_of(parameters))(converted)
    return {name: converted.get(name, parameter.default) for name, parameter in parameters.items()}


def _typed(value: Any, parameter: ParameterConfig | None) -> Any:
    """A text of a form or an address as the parameter's type, where it is one."""
    if not isinstance(value, str) or parameter is None:
        return value
    text = value.strip()
    if parameter.type == "integer" and re.fullmatch(r"[-+]?\d{1,18}", text):
        return int(text)
    if parameter.type == "number" and re.fullmatch(r"[-+]?\d{1,18}(\.\d{1,18})?", text):
        return float(text)
    if parameter.type == "boolean" and text.casefold() in ("true", "false", "yes", "no"):
        return text.casefold() in ("true", "yes")
    return value


def fill(sql: str, parameters: Mapping[str, ParameterConfig], values: Mapping[str, Any], dialect: SqlDialect) -> str:
    """The statement with its places filled. `ParameterInvalid`."""

    def place(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        if name not in parameters:
            raise ParameterInvalid(f"the question has no parameter {name}", param=name)
        return literal(name, values.get(name), parameters[name].type, dialect)

    return PARTS.sub(place, sql.strip().rstrip(";"))


def places_of(sql: str) -> Sequence[str]:
    """The names of a statement's places."""
    return list(dict.fromkeys(match["name"] for match in PARTS.finditer(sql) if match["name"]))


def literal(name: str, value: Any, kind: str, dialect: SqlDialect) -> str:
    """One literal. `ParameterInvalid` for a backslash or control character, which dialects read differently."""
    if value is None:
        return "NULL"
    made = value_of(name, value, kind, "postgres")
    match made:
        case bool():
            return str(int(made)) if dialect == "sqlite" else str(made).upper()
        case int():
            return f"({made})" if made < 0 else str(made)
        case Decimal():
            if not made.is_finite():
                raise ParameterInvalid(f"{name} is not a finite number", param=name)
            return f"({made:f})" if made < 0 else f"{made:f}"
    text = made.isoformat(sep=" ") if kind == "timestamp" else str(made)
    quoted = quote(name, text)
    return f"{_QUOTED_TYPES[kind]} {quoted}" if kind in _QUOTED_TYPES and dialect != "sqlite" else quoted


def quote(name: str, text: str) -> str:
    """A text literal of every dialect. `ParameterInvalid`."""
    if "\\" in text or any(not character.isprintable() for character in text):
        raise ParameterInvalid(f"{name} has a backslash or a control character", param=name)
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
