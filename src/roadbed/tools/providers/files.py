"""Tools of sources of type ``files`` that have ``explore: true``: list, read and search below their folder.

`tools.files` keeps the walls; here is what a model sees. Work that blocks runs in threads and ends at the deadline. The
invariant: every result is bounded in entries, bytes and time, and says so where it was cut.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import parse_label
from roadbed.sources.errors import QueryRefused
from roadbed.sources.manifest import FilesSource, SourceConfig
from roadbed.tools.files import FileGone, FilePart, FileRoot, FolderEntry, PathRefused
from roadbed.tools.text_of_files import (
    READ_UNITS,
    READ_UNITS_MAX,
    TextExtractor,
    TextUnavailable,
    extract,
    is_plain,
    part_of_bytes,
    part_of_text,
)
from roadbed.tools.types import Ok, Outcome, Provenance, Tool, ToolRequest

LIST_PAGE = 200
SEARCH_FILES_MAX = 2_000
SEARCH_FOLDERS_MAX = 1_000
SEARCH_BYTES_MAX = 32 * 1024 * 1024
SEARCH_FILE_BYTES_MAX = 4 * 1024 * 1024
SEARCH_HITS_MAX = 50
SEARCH_HITS_PER_FILE = 5
SEARCH_S_MAX = 10.0
SNIPPET_CHARACTERS = 200
OFFSET_MAX = 2**53

_PATH = {"type": "string", "maxLength": 1024, "description": "path below the source, with forward slashes"}


@dataclass(slots=True)
class _Found:
    """What a search found so far, and what it has used up."""

    hits: list[dict[str, Any]] = field(default_factory=list)
    files: int = 0
    folders: int = 0
    bytes_read: int = 0
    is_cut: bool = False


def file_tools(
    sources: Mapping[str, SourceConfig],
    workspace: Path,
    *,
    extractor: TextExtractor | None = None,
    passed_over: Sequence[Path] = (),
) -> list[Tool]:
    """Three tools for each files source with ``explore: true``. ``passed_over`` are folders that no tool may see."""
    tools: list[Tool] = []
    for name, config in sources.items():
        if isinstance(config, FilesSource) and config.explore:
            root = FileRoot(
                name,
                workspace / Path(config.path).expanduser(),
                include=config.include,
                exclude=config.exclude,
                passed_over=passed_over,
            )
            tools += _FileTools(name, config, root, extractor).tools()
    return tools


class _FileTools:
    def __init__(self, name: str, config: FilesSource, root: FileRoot, extractor: TextExtractor | None) -> None:
        self._name = name
        self._config = config
        self._root = root
        self._extractor = extractor
        self._label = parse_label(config.labels, where=f"sources.{name}.labels")

    def tools(self) -> list[Tool]:
        name = self._name
        return [
            self._tool(
                "list", f"Lists the files and folders directly in a folder of {name}.", self._list, {"path": _PATH}
            ),
            self._tool(
                "read",
                f"Reads text of one file of {name}; documents are turned into text. Ask with next_offset for more.",
                self._read,
                {
                    "path": _PATH,
                    "offset": {"type": "integer", "minimum": 0, "maximum": OFFSET_MAX, "description": "where to begin"},
                    "limit": {"type": "integer", "minimum": 1, "maximum": READ_UNITS_MAX, "description": "how much"},
                },
                ["path"],
            ),
            self._tool(
                "search",
                f"Finds a text in the names and the plain text of files of {name}, whatever the case of its letters.",
                self._search,
                {"text": {"type": "string", "minLength": 1, "maxLength": 200}, "path": _PATH},
                ["text"],
            ),
        ]

    def _tool(
        self, verb: str, description: str, run: Any, properties: Mapping[str, Any], required: Sequence[str] = ()
    ) -> Tool:
        visible_to = self._config.visible_to
        return Tool(
            name=f"{self._name}_{verb}",
            title=f"{verb.capitalize()} files of {self._name}",
            description=description,
            source=self._name,
            run=run,
            input_schema={
                "type": "object",
                "properties": dict(properties),
                "required": list(required),
                "additionalProperties": False,
            },
            label=self._label,
            visible_to=None if visible_to is None else frozenset(visible_to),
        )

    async def _list(self, request: ToolRequest) -> Outcome:
        path = text_argument(request, "path")
        after = request.cursor
        entries: list[FolderEntry] = await _in_thread(self._root.entries, path, deadline=request.deadline)
        following = [entry for entry in entries if entry.path > after] if after else entries
        page = following[:LIST_PAGE]
        is_cut = len(following) > LIST_PAGE
        return Ok(
            {"entries": [_shown(entry) for entry in page]},
            (self._provenance(path or "/"),),
            self._label,
            is_truncated=is_cut,
            cursor=page[-1].path if is_cut else "",
        )

    async def _read(self, request: ToolRequest) -> Outcome:
        path = text_argument(request, "path")
        offset = number_argument(request, "offset", 0, OFFSET_MAX)
        limit = max(1, number_argument(request, "limit", READ_UNITS, READ_UNITS_MAX))
        size_max = self._config.tool_bytes_max
        head = await self._part(path, 0, 4_096, size_max, request.deadline)
        if is_plain(path, head.data):
            found = await self._part(path, offset, limit, size_max, request.deadline)
            part = part_of_bytes(found.data, offset, found.size_bytes)
        else:
            found = await self._part(path, 0, size_max + 1, size_max, request.deadline)
            async with asyncio.timeout(request.deadline.remaining_s()):
                part = part_of_text(await extract(self._extractor, found.data, path), offset, limit)
        provenance = self._provenance(f"{path}@{found.version}")
        return Ok({"path": path, **part.data()}, (provenance,), self._label, is_truncated=part.next_offset >= 0)

    async def _part(self, path: str, offset: int, limit: int, size_max: int, deadline: Deadline) -> FilePart:
        part: FilePart = await _in_thread(self._root.read, path, offset, limit, size_max, deadline=deadline)
        return part

    async def _search(self, request: ToolRequest) -> Outcome:
        text = text_argument(request, "text")
        if not text.strip():
            raise QueryRefused("the text to search for is empty", hint="give a word or a phrase")
        deadline = request.deadline.share(0.9, at_most_s=SEARCH_S_MAX)
        start = text_argument(request, "path")
        found = await _in_thread(self._find, text.casefold(), start, deadline, deadline=request.deadline)
        data = {"matches": found.hits, "files_looked_at": found.files, "is_complete": not found.is_cut}
        return Ok(data, (self._provenance(start or "/"),), self._label, is_truncated=found.is_cut)

    # -- in a thread --------------------------------------------------------------------------------------------------

    def _find(self, wanted: str, start: str, deadline: Deadline) -> _Found:
        found = _Found()
        for entry in self._walk(start, found):
            if (
                deadline.has_passed()
                or len(found.hits) >= SEARCH_HITS_MAX
                or found.files >= SEARCH_FILES_MAX
                or found.bytes_read >= SEARCH_BYTES_MAX
            ):
                found.is_cut = True
                break
            found.files += 1
            if wanted in entry.path.casefold():
                found.hits.append({"path": entry.path, "line": 0, "text": ""})
            if entry.size_bytes > min(SEARCH_FILE_BYTES_MAX, self._config.tool_bytes_max):
                found.is_cut = True  # too large to look into
                continue
            try:
                part = self._root.read(entry.path, 0, SEARCH_FILE_BYTES_MAX, SEARCH_FILE_BYTES_MAX)
            except (FileGone, PathRefused):
                continue  # it went, or became something else, since it was listed
            found.bytes_read += len(part.data)
            if is_plain(entry.path, part.data):
                found.hits += _matches(entry.path, part.data.decode("utf-8", "replace"), wanted)
        del found.hits[SEARCH_HITS_MAX:]
        return found

    def _walk(self, start: str, found: _Found) -> Iterator[FolderEntry]:
        """All files below a folder, depth first, by path. Raises for the first folder only."""
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            try:
                entries = self._root.entries(folder)
            except (FileGone, PathRefused):
                if folder == start:
                    raise
                continue
            found.folders += 1
            if found.folders > SEARCH_FOLDERS_MAX:
                found.is_cut = True
                return
            yield from (entry for entry in entries if not entry.is_folder)
            waiting += [entry.path for entry in reversed(entries) if entry.is_folder]

    def _provenance(self, resource: str) -> Provenance:
        return Provenance(self._name, resource, time.time())


def text_argument(request: ToolRequest, name: str) -> str:
    """A string argument; empty when it is left out. Raises `QueryRefused` for another type."""
    value = request.arguments.get(name, "")
    if not isinstance(value, str):
        raise QueryRefused(f"{name} must be a text", param=name)
    return value


def number_argument(request: ToolRequest, name: str, default: int, maximum: int) -> int:
    """A whole number from 0 to a maximum. Raises `QueryRefused` for anything else."""
    value = request.arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        raise QueryRefused(f"{name} must be a whole number from 0 to {maximum}", param=name)
    return value


def _matches(path: str, text: str, wanted: str) -> list[dict[str, Any]]:
    hits: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        place = line.casefold().find(wanted)
        if place >= 0:
            start = max(0, place - SNIPPET_CHARACTERS // 2)
            hits.append({"path": path, "line": number, "text": line[start : start + SNIPPET_CHARACTERS].strip()})
            if len(hits) >= SEARCH_HITS_PER_FILE:
                break
    return hits


def _shown(entry: FolderEntry) -> dict[str, Any]:
    if entry.is_folder:
        return {"path": entry.path, "kind": "folder"}
    modified = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.modified))
    return {"path": entry.path, "kind": "file", "bytes": entry.size_bytes, "modified": modified}


async def _in_thread(work: Any, *arguments: Any, deadline: Deadline) -> Any:
    """Work that blocks, no longer than the deadline; a thread that a dead storage holds is left behind."""
    deadline.check("reading files")
    try:
        async with asyncio.timeout(deadline.remaining_s()):
            return await asyncio.to_thread(work, *arguments)
    except TimeoutError:
        raise TextUnavailable("the files did not answer before the deadline", hint="ask for less") from None
