"""Tools of sources of type ``objects``: list and read what is below a prefix of an object store.

The version of an object (its ETag) is in the provenance of what was read, and a page that follows is of the same one.
The invariant: no address of the store, signed or not, is in a result.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from roadbed.kernel.label import parse_label
from roadbed.sources.errors import QueryRefused
from roadbed.sources.manifest import ObjectsSource, SourceConfig
from roadbed.sources.objects import ObjectEntry
from roadbed.sources.reach import Reach
from roadbed.tools.files import FileTooLarge
from roadbed.tools.providers.files import OFFSET_MAX, number_argument, text_argument
from roadbed.tools.text_of_files import (
    READ_UNITS,
    READ_UNITS_MAX,
    TextExtractor,
    extract,
    is_plain,
    part_of_bytes,
    part_of_text,
)
from roadbed.tools.types import Ok, Outcome, Provenance, Tool, ToolRequest

_PATH = {"type": "string", "maxLength": 1024, "description": "path below the source, with forward slashes"}
_OFFSET = {"type": "integer", "minimum": 0, "maximum": OFFSET_MAX, "description": "where to begin"}
_LIMIT = {"type": "integer", "minimum": 1, "maximum": READ_UNITS_MAX, "description": "how much"}


def object_tools(
    sources: Mapping[str, SourceConfig], reach: Reach, *, extractor: TextExtractor | None = None
) -> list[Tool]:
    """Two tools for each objects source."""
    return [
        tool
        for name, config in sources.items()
        if isinstance(config, ObjectsSource)
        for tool in _ObjectTools(name, config, reach, extractor).tools()
    ]


class _ObjectTools:
    def __init__(self, name: str, config: ObjectsSource, reach: Reach, extractor: TextExtractor | None) -> None:
        self._name = name
        self._config = config
        self._reach = reach
        self._extractor = extractor
        self._label = parse_label(config.labels, where=f"sources.{name}.labels")

    def tools(self) -> list[Tool]:
        name = self._name
        about_read = (
            f"Reads text of one object of {name}; documents are turned into text. Ask with next_offset for more."
        )
        return [
            self._tool("list", f"Lists the objects of {name}, by path.", self._list, {"path": _PATH}, []),
            self._tool("read", about_read, self._read, {"path": _PATH, "offset": _OFFSET, "limit": _LIMIT}, ["path"]),
        ]

    def _tool(self, verb: str, description: str, run: Any, properties: dict[str, Any], required: list[str]) -> Tool:
        visible_to = self._config.visible_to
        return Tool(
            name=f"{self._name}_{verb}",
            title=f"{verb.capitalize()} objects of {self._name}",
            description=description,
            source=self._name,
            run=run,
            input_schema={
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            },
            label=self._label,
            visible_to=None if visible_to is None else frozenset(visible_to),
        )

    async def _list(self, request: ToolRequest) -> Outcome:
        path = text_argument(request, "path")
        system = self._reach.objects(self._name)
        entries, has_more = await system.page(path, request.cursor, request.deadline)
        return Ok(
            {"objects": [_shown(entry) for entry in entries]},
            (Provenance(self._name, path or "/", time.time()),),
            self._label,
            is_truncated=has_more,
            cursor=entries[-1].path if has_more else "",
        )

    async def _read(self, request: ToolRequest) -> Outcome:
        path = text_argument(request, "path")
        offset = number_argument(request, "offset", 0, OFFSET_MAX)
        limit = max(1, number_argument(request, "limit", READ_UNITS, READ_UNITS_MAX))
        version, offset = _resumed(request.cursor, offset)
        system, deadline, size_max = self._reach.objects(self._name), request.deadline, self._config.tool_bytes_max
        head = await system.read(path, 0, max(4_096, 0 if offset else limit), deadline, version)
        if is_plain(path, head.data):
            found = replace(head, data=head.data[:limit])
            if offset:
                found = await system.read(path, offset, limit, deadline, head.version)
            part = part_of_bytes(found.data, offset, found.size_bytes)
        elif head.size_bytes > size_max:
            raise FileTooLarge(f"{path[:200]!r} is over {size_max} bytes", param="path")
        else:
            found = await system.read(path, 0, size_max, deadline, head.version)
            part = part_of_text(await extract(self._extractor, found.data, path), offset, limit)
        has_more = part.next_offset >= 0
        cursor = msgspec.json.encode([found.version, part.next_offset]).decode() if has_more else ""
        provenance = Provenance(self._name, f"{path}@{found.version.strip(chr(34))}", time.time())
        return Ok({"path": path, **part.data()}, (provenance,), self._label, is_truncated=has_more, cursor=cursor)


def _resumed(cursor: str, offset: int) -> tuple[str, int]:
    if not cursor:
        return "", offset
    try:
        return msgspec.json.decode(cursor, type=tuple[str, int])
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise QueryRefused("the cursor is not one of this tool", hint="call again without it") from None


def _shown(entry: ObjectEntry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "bytes": entry.size_bytes,
        "modified": entry.modified.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "version": entry.version.strip('"'),
    }
