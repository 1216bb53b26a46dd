"""What differs between two releases of an app, for tests that hold what moves a digest."""

from __future__ import annotations

from roadbed.kernel.release import Release


def changed_parts(old: Release, new: Release) -> set[str]:
    """The parts of their documents in which they differ."""
    parts = {*old.document, *new.document}
    return {part for part in parts if old.document.get(part) != new.document.get(part)}
