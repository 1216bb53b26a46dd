"""``tools.lock``: the tools of other MCP servers as a person approved them, with a digest of each. In the workspace.

A server may change what its tools say at any time, and models read those words as instructions. So models see the
pinned text, never the server's of the moment; a tool whose definition changed is refused until it is accepted anew.
The effect of each is ours, never the server's hint. The invariant: what is in a lock that was read has the digest that
stands beside it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from roadbed.tools.canonical import canonical_json
from roadbed.tools.types import Effect
from roadbed.tools.upstreams.errors import LockInvalid
from roadbed.tools.upstreams.review import problems_of, skeleton_of

LOCK_NAME = "tools.lock"
LOCK_BYTES_MAX = 16 * 1024 * 1024
PINNED = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
NAME_CHARACTERS_MAX = 64
DEFAULT_EFFECT: Effect = "write"
"""Until somebody says that a tool only reads, each call waits for an approval."""


class LockedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tool as it was approved. ``name`` is ours; ``definition`` holds the server's words."""

    name: str
    effect: Effect
    digest: str
    definition: dict[str, Any]


class LockedSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tools of one server, by its own names. ``address`` is its URL or command, without secrets."""

    address: str
    approved_by: str
    approved_at: str
    tools: dict[str, LockedTool] = {}


class ToolsLock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    version: int = 1
    sources: dict[str, LockedSource] = {}


@dataclass(frozen=True, slots=True)
class Drift:
    """What a server offers now against what was approved, by its names of tools. ``changed`` holds readable diffs."""

    changed: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def refused(self) -> frozenset[str]:
        """Approved tools that must not be called as they are now."""
        return frozenset({*self.changed, *self.missing})

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.added)


def pinned_of(offered: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a tool's definition that is pinned."""
    return {key: offered[key] for key in PINNED if offered.get(key) is not None}


def digest_of(definition: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON (RFC 8785) of what is pinned. `ValueError` for what is not JSON."""
    return "sha256:" + hashlib.sha256(canonical_json(pinned_of(definition))).hexdigest()


def drift_of(locked: LockedSource, offered: Sequence[Mapping[str, Any]]) -> Drift:
    """What differs between the approved tools and those that a server offers."""
    now = {str(tool.get("name")): tool for tool in offered}
    changed = {
        name: diff_of(tool.definition, pinned_of(now[name]))
        for name, tool in locked.tools.items()
        if name in now and not _is_same(tool, now[name])
    }
    missing = tuple(name for name in locked.tools if name not in now)
    return Drift(changed, missing, tuple(name for name in now if name not in locked.tools))


def _is_same(locked: LockedTool, offered: Mapping[str, Any]) -> bool:
    try:
        return digest_of(offered) == locked.digest
    except (ValueError, RecursionError):
        return False


def diff_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The lines that changed between two definitions; invisible characters are written as escapes."""
    return "\n".join(difflib.unified_diff(_lines(before), _lines(after), "approved", "offered", lineterm=""))


def _lines(definition: Mapping[str, Any]) -> list[str]:
    return json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=True).splitlines() if definition else []


def tool_name(source: str, tool: str) -> str:
    """Our name of a server's tool: always with the source's before it, of characters that every model API takes."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", f"{source}_{tool}")[:NAME_CHARACTERS_MAX]


def accepted(
    source: str,
    address: str,
    offered: Sequence[Mapping[str, Any]],
    *,
    approver: str,
    at: str,
    before: LockedSource | None = None,
    effects: Mapping[str, Effect] | None = None,
) -> tuple[LockedSource, dict[str, tuple[str, ...]]]:
    """What a server offers, pinned, and the tools that were left out with the reasons.

    A tool keeps the effect that it was approved with, unless ``effects`` says otherwise.
    """
    tools: dict[str, LockedTool] = {}
    refused: dict[str, tuple[str, ...]] = {}
    taken: dict[str, str] = {}
    looks: dict[str, str] = {}
    for entry in offered:
        name = str(entry.get("name"))
        definition = pinned_of(entry)
        problems = list(problems_of(definition))
        ours = tool_name(source, name)
        if ours in taken:
            problems.append(f"its name becomes {ours}, as that of {taken[ours]} does")
        elif skeleton_of(ours) in looks:
            problems.append(f"its name looks like {looks[skeleton_of(ours)]}")
        if problems:
            refused[name] = tuple(problems)
            continue
        taken[ours] = looks[skeleton_of(ours)] = name
        known = before.tools.get(name) if before is not None else None
        effect = (effects or {}).get(name) or (known.effect if known is not None else DEFAULT_EFFECT)
        tools[name] = LockedTool(ours, effect, digest_of(definition), definition)
    return LockedSource(address, approver, at, dict(sorted(tools.items()))), refused


def read_lock(folder: Path) -> ToolsLock:
    """The lock of a workspace; an empty one where there is no file. `LockInvalid`."""
    path = folder / LOCK_NAME
    try:
        if path.stat().st_size > LOCK_BYTES_MAX:
            raise LockInvalid(f"{LOCK_NAME} is larger than {LOCK_BYTES_MAX} bytes")
        lock = msgspec.json.decode(path.read_bytes(), type=ToolsLock)
    except FileNotFoundError:
        return ToolsLock()
    except (OSError, msgspec.MsgspecError, RecursionError) as error:
        raise LockInvalid(f"{LOCK_NAME} cannot be read ({type(error).__name__})") from None
    for source, entry in lock.sources.items():
        for name, tool in entry.tools.items():
            if digest_of(tool.definition) != tool.digest or tool.name != tool_name(source, name):
                raise LockInvalid(f"{LOCK_NAME}: {source}.{name} is not what was approved: its digest differs")
    return lock


def write_lock(folder: Path, lock: ToolsLock) -> None:
    """Replace the file as a whole."""
    body = json.dumps(msgspec.to_builtins(lock), indent=2, sort_keys=True, ensure_ascii=True) + "\n"
    path = folder / LOCK_NAME
    fresh = path.with_name(f".{LOCK_NAME}.new")
    fresh.write_text(body, encoding="ascii")
    os.replace(fresh, path)
