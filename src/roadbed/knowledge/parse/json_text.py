"""JSON and JSON lines as text: one ``path: value`` line per scalar, grouped by the top level.

Called by ``dispatch``. A list of flat objects becomes one row block per object, the form in which exports are
searched. The invariant: depth is bounded, so no file can exhaust the stack.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, ParseFailure, canonical, one_line, stem
from roadbed.knowledge.parse.encoding import decode
from roadbed.knowledge.parse.versions import parser_name

PARSER = parser_name("json")
DEPTH_MAX = 100
GROUP_CHARS_MAX = 1_500
"""A longer group of lines is cut into several blocks."""
FLAT_CHARS_MAX = 2_000
Value = object


def parse_json(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read one JSON value; a file of several values is read as JSON lines."""
    text, _, _ = decode(data, declared=declared)
    try:
        value = json.loads(text)
    except RecursionError:
        raise ParseFailure("corrupt", f"{name} is nested too deeply") from None
    except ValueError as error:
        if "Extra data" in str(error):
            return parse_json_lines(data, name, declared)
        raise ParseFailure("corrupt", f"{name} is not valid JSON ({error})") from error
    builder = DocumentBuilder()
    if isinstance(value, dict) and isinstance(value.get("cells"), list) and "nbformat" in value:
        _notebook(builder, value["cells"])
    else:
        _top(builder, value)
    builder.title = _title_of(value) or stem(name)
    return builder.finish(name=name, parser=PARSER, media_type="application/json")


def parse_json_lines(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read one JSON value per line; broken lines are counted in a warning."""
    text, _, _ = decode(data, declared=declared)
    builder = DocumentBuilder()
    broken = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or builder.full:
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            broken += 1
            continue
        _record(builder, "", value, location=f"line {number}")
    if broken:
        builder.warn(f"{broken} lines are not valid JSON")
    if broken and not len(builder):
        raise ParseFailure("corrupt", f"{name} holds no valid JSON line")
    builder.title = stem(name)
    return builder.finish(name=name, parser=PARSER, media_type="application/jsonl")


def flatten(value: Value, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """``(path, text)`` of every scalar that is not null, in order: ``a.b[0].c``."""
    if depth > DEPTH_MAX:
        yield path, "..."
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(item, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list):
        if value and all(isinstance(item, str | int | float) for item in value) and len(str(value)) < FLAT_CHARS_MAX:
            yield path, ", ".join(_scalar(item) for item in value)
            return
        for index, item in enumerate(value):
            yield from flatten(item, f"{path}[{index}]", depth + 1)
    elif value is not None and value != "":
        yield path, _scalar(value)


def _scalar(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return one_line(str(value))


def _top(builder: DocumentBuilder, value: Value) -> None:
    if isinstance(value, dict):
        scalars = {key: item for key, item in value.items() if not isinstance(item, dict | list)}
        _lines(builder, flatten(scalars))
        for key, item in value.items():
            if isinstance(item, dict | list) and item:
                builder.add("heading", one_line(str(key)), level=1)
                _group(builder, str(key), item)
    elif isinstance(value, list):
        _group(builder, "", value)
    else:
        builder.add("paragraph", _scalar(value) if value is not None else "")


def _group(builder: DocumentBuilder, path: str, value: Value) -> None:
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for index, item in enumerate(value):
            if builder.full:
                return
            _record(builder, path, item, location=f"{path}[{index}]")
    else:
        _lines(builder, flatten(value, path))


def _record(builder: DocumentBuilder, path: str, value: Value, *, location: str) -> None:
    pairs = list(flatten(value))
    text = "; ".join(f"{key}: {item}" if key else item for key, item in pairs)
    if len(text) <= FLAT_CHARS_MAX:
        builder.add("row", text, location=location)
    else:
        _lines(builder, iter(pairs), location=location)


def _lines(builder: DocumentBuilder, pairs: Iterator[tuple[str, str]], location: str = "") -> None:
    group: list[str] = []
    size = 0
    for key, item in pairs:
        line = f"{key}: {item}" if key else item
        if group and size + len(line) > GROUP_CHARS_MAX:
            builder.add("paragraph", "\n".join(group), location=location)
            group, size = [], 0
        group.append(line)
        size += len(line)
        if builder.full:
            return
    builder.add("paragraph", "\n".join(group), location=location)


def _notebook(builder: DocumentBuilder, cells: list[Value]) -> None:
    """A Jupyter notebook: its Markdown and its code, without outputs."""
    for number, cell in enumerate(cells, 1):
        source = cell.get("source") if isinstance(cell, dict) else None
        text = (
            "".join(part for part in source if isinstance(part, str)) if isinstance(source, list) else str(source or "")
        )
        is_code = isinstance(cell, dict) and cell.get("cell_type") == "code"
        for piece in [text] if is_code else text.split("\n\n"):
            builder.add("code" if is_code else "paragraph", canonical(piece), location=f"cell {number}")


def _title_of(value: Value) -> str:
    if isinstance(value, dict):
        for key in ("title", "name"):
            if isinstance(value.get(key), str):
                return one_line(value[key])
    return ""
