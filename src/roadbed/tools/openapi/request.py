"""Arguments to a request: the path, query, headers and body of one call, encoded as the parameters' styles say. Pure.

Nothing is joined unencoded: whatever a value holds, it stays one value of one parameter (OpenAPI 3.1, "Style Values";
RFC 3986, RFC 6570). The invariant: the path that comes out has the segments of the operation's path, and the query only
names that its parameters have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import msgspec

from roadbed.kernel.errors import InvalidRequest
from roadbed.tools.openapi.operations import Operation, Parameter

VALUE_BYTES_MAX = 8 * 1024
TARGET_BYTES_MAX = 8 * 1024
ITEMS_MAX = 200
DECODED_TIMES = 3

Headers = tuple[tuple[bytes, bytes], ...]
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class ArgumentRefused(InvalidRequest):
    """An argument cannot be sent to the API as it is."""

    code = "tools.argument_refused"


@dataclass(frozen=True, slots=True)
class BuiltRequest:
    """A request below the base address of an API; ``query`` has names as they are and encoded values."""

    path: str
    query: tuple[tuple[str, str], ...]
    headers: Headers
    body: bytes

    @property
    def target(self) -> str:
        """Path and query as they go on the wire."""
        query = "&".join(f"{quote(name, safe='')}={value}" for name, value in self.query)
        return f"{self.path}?{query}" if query else self.path


def build_request(operation: Operation, arguments: Mapping[str, Any]) -> BuiltRequest:
    """The request of one call. Raises `ArgumentRefused`, which names the argument."""
    known = {parameter.argument for parameter in operation.parameters}
    if operation.body is not None:
        known.add(operation.body_argument)
    for name in arguments:
        if name not in known:
            raise ArgumentRefused(
                f"there is no argument {name[:64]!r}", hint=f"arguments: {', '.join(sorted(known))[:300]}"
            )
    path = operation.path
    query: list[tuple[str, str]] = []
    headers: list[tuple[bytes, bytes]] = [(b"accept", b"application/json, text/plain;q=0.5")]
    for parameter in operation.parameters:
        value = arguments.get(parameter.argument)
        if value is None:
            if parameter.is_required:
                raise _refused(parameter, "is missing")
        elif parameter.place == "path":
            path = path.replace(f"{{{parameter.name}}}", path_value(parameter, value))
        elif parameter.place == "query":
            query += query_pairs(parameter, value)
        else:
            headers.append((parameter.name.lower().encode("ascii"), header_value(parameter, value)))
    for segment in path.split("/")[1:]:
        if _leads_elsewhere(segment):
            raise ArgumentRefused(
                "a value would lead to another address of the API", hint="send a plain name or number"
            )
    body, media_type = _body(operation, arguments)
    if media_type:
        headers.append((b"content-type", media_type))
    built = BuiltRequest(path, tuple(query), tuple(headers), body)
    if len(built.target) > TARGET_BYTES_MAX:
        raise ArgumentRefused("the arguments make too long an address", hint="send fewer or shorter values")
    return built


def _leads_elsewhere(segment: str) -> bool:
    """Whether a server that decodes too often, or takes ``..;a`` or a backslash for more, would change directory."""
    text = segment
    for _ in range(DECODED_TIMES):
        text = unquote(text)
    return any(part.partition(";")[0] in (".", "..") for part in re.split(r"[/\\]", text))


def path_value(parameter: Parameter, value: Any) -> str:
    """One parameter in a path. Raises `ArgumentRefused` for what is empty, ``.`` or ``..``."""
    separator = {"label": ".", "matrix": ","}.get(parameter.style, ",")
    if parameter.is_json:
        text = _quoted(_json(parameter, value))
    elif isinstance(value, Mapping):
        pairs = [(_quoted(str(key)), _quoted(_plain(parameter, inner))) for key, inner in _items(parameter, value)]
        if parameter.style == "matrix" and parameter.explode:
            return "".join(f";{key}={inner}" for key, inner in pairs)
        joint, between = ("=", separator) if parameter.explode else (",", ",")
        text = between.join(f"{key}{joint}{inner}" for key, inner in pairs)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        items = [_quoted(_plain(parameter, inner)) for inner in _bounded(parameter, value)]
        if parameter.style == "matrix" and parameter.explode:
            return "".join(f";{_quoted(parameter.name)}={item}" for item in items)
        text = (separator if parameter.explode else ",").join(items)
    else:
        text = _quoted(_plain(parameter, value))
    if unquote(text) in ("", ".", ".."):
        raise _refused(parameter, "may not be empty, . or ..")
    return {"label": f".{text}", "matrix": f";{_quoted(parameter.name)}={text}"}.get(parameter.style, text)


def query_pairs(parameter: Parameter, value: Any) -> list[tuple[str, str]]:
    """(name, encoded value) of one parameter in a query. Raises `ArgumentRefused`."""
    name = parameter.name
    if parameter.is_json:
        return [(name, _quoted(_json(parameter, value)))]
    if isinstance(value, Mapping):
        pairs = [(str(key), _quoted(_plain(parameter, inner))) for key, inner in _items(parameter, value)]
        if parameter.style == "deepObject":
            return [(f"{name}[{key}]", inner) for key, inner in pairs]
        if parameter.style == "form" and parameter.explode:
            for key, _ in pairs:
                if key.lower() not in parameter.keys:
                    raise _refused(parameter, "has a field that the API does not know")
            return pairs
        parts = [part for key, inner in pairs for part in (_quoted(key), inner)]
        return [(name, _delimiter(parameter).join(parts))] if parts else []
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [_quoted(_plain(parameter, inner)) for inner in _bounded(parameter, value)]
        if parameter.explode and parameter.style == "form":
            return [(name, item) for item in items]
        return [(name, _delimiter(parameter).join(items))] if items else []
    return [(name, _quoted(_plain(parameter, value)))]


def header_value(parameter: Parameter, value: Any) -> bytes:
    """One parameter as a header. Raises `ArgumentRefused` for what no header can carry."""
    if parameter.is_json:
        text = _json(parameter, value)
    elif isinstance(value, Mapping):
        joint = "=" if parameter.explode else ","
        text = ",".join(f"{key}{joint}{_plain(parameter, inner)}" for key, inner in _items(parameter, value))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        text = ",".join(_plain(parameter, inner) for inner in _bounded(parameter, value))
    else:
        text = _plain(parameter, value)
    if not _HEADER_VALUE.fullmatch(text):
        raise _refused(parameter, "holds characters that no header can carry")
    return text.encode("ascii")


def _body(operation: Operation, arguments: Mapping[str, Any]) -> tuple[bytes, bytes]:
    value = arguments.get(operation.body_argument) if operation.body is not None else None
    if value is None:
        if operation.is_body_required:
            raise ArgumentRefused(f"the argument {operation.body_argument} is missing", param=operation.body_argument)
        return b"", b""
    if operation.body == "json":
        return msgspec.json.encode(value), b"application/json"
    if not isinstance(value, Mapping):
        raise ArgumentRefused("a form is an object of plain values", param=operation.body_argument)
    pairs = []
    for key, inner in value.items():
        values = inner if isinstance(inner, list) else [inner]
        if any(isinstance(item, Mapping | list) for item in values):
            raise ArgumentRefused("a form is an object of plain values", param=operation.body_argument)
        pairs += [f"{quote_plus(str(key))}={quote_plus(_scalar(item))}" for item in values if item is not None]
    return "&".join(pairs).encode("ascii"), b"application/x-www-form-urlencoded"


def _plain(parameter: Parameter, value: Any) -> str:
    if isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str)):
        raise _refused(parameter, "nests deeper than an address can carry")
    text = _scalar(value)
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise _refused(parameter, "holds half characters") from None
    if size > VALUE_BYTES_MAX:
        raise _refused(parameter, f"is over {VALUE_BYTES_MAX} bytes")
    if "\0" in text:
        raise _refused(parameter, "holds a NUL character")
    return text


def _scalar(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
        case _:
            return str(value)


def _json(parameter: Parameter, value: Any) -> str:
    text = msgspec.json.encode(value).decode("utf-8")
    return _plain(parameter, text)


def _items(parameter: Parameter, value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    for key in value:
        if not isinstance(key, str) or re.search(r"[\[\]&=#\x00-\x1f\x7f]", key):
            raise _refused(parameter, "has a field with a name that an address cannot carry")
    return [(key, inner) for key, inner in _bounded(parameter, list(value.items())) if inner is not None]


def _bounded(parameter: Parameter, values: Sequence[Any]) -> Sequence[Any]:
    if len(values) > ITEMS_MAX:
        raise _refused(parameter, f"has more than {ITEMS_MAX} entries")
    return values


def _delimiter(parameter: Parameter) -> str:
    return {"spaceDelimited": "%20", "pipeDelimited": "%7C"}.get(parameter.style, ",")


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _refused(parameter: Parameter, reason: str) -> ArgumentRefused:
    return ArgumentRefused(f"the argument {parameter.argument[:64]} {reason}", param=parameter.argument)
