"""Checks of the manifest's ``guard`` section: its patterns, dictionaries and names, before anything serves with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from roadbed.guard.looking import allowed_values, looking_for
from roadbed.kernel.config import Document
from roadbed.kernel.errors import ConfigError
from roadbed.releases.manifest import Manifest


def check_guard(folder: Path, manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    """What is wrong with the section, with its line."""
    try:
        looking_for(manifest.guard, folder)
        allowed_values(manifest.guard)
    except ConfigError as error:
        yield document.error(str(error), ("guard",), hint=error.hint)
