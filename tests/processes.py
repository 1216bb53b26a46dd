"""What the processes of a test are doing (Linux)."""

from __future__ import annotations

from pathlib import Path


def children() -> dict[int, str]:
    """Living children of this process by id, without Python's own resource tracker."""
    found: dict[int, str] = {}
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            listed = listing.read_text().split()
        except OSError:  # the thread ended since it was listed
            continue
        for pid in map(int, listed):
            name = _living(pid)
            if name is not None and "resource_tracker" not in name:
                found[pid] = name
    return found


def _living(pid: int) -> str | None:
    """Its command line, or what it is called as long as it has none, for a moment at its start; None when it ended."""
    try:
        called, _, rest = Path(f"/proc/{pid}/stat").read_text().partition(" (")[2].rpartition(") ")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return None
    return None if rest[0] in "ZX" else command.strip()[:120] or called
