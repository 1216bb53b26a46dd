"""Checks of the manifest's ``guard`` section: its patterns, dictionaries and names, before anything serves with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from roadbed.guard.looking import allowed_values, looking_for
from roadbed.guard.rules import RuleTable
from roadbed.kernel.config import Document
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import parse_label
from roadbed.releases.manifest import Manifest


def check_guard(folder: Path, manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    """What is wrong with the section, with its line."""
    try:
        looking_for(manifest.guard, folder)
        allowed_values(manifest.guard)
        RuleTable(manifest.guard.rules)
    except ConfigError as error:
        yield document.error(str(error), ("guard",), hint=error.hint)
    here = manifest.guard.region
    for name, source in manifest.sources.items() if here else ():
        try:
            regions = parse_label(source.labels).regions
        except ConfigError:
            continue  # said where labels are checked
        if regions is not None and here not in regions:
            allowed = " or ".join(sorted(regions))
            message = f"{name}: its data must stay in {allowed}, and this deployment stores in {here} (`guard.region`)"
            hint = "leave the source out, or run a deployment in that region for it"
            yield document.error(message, ("sources", name, "labels"), hint=hint)
