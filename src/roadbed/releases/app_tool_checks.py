"""What apps say of tools, against the manifest's sources and tools: every entry must name something. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from roadbed.kernel.config import Document, nearest
from roadbed.kernel.errors import ConfigError
from roadbed.releases.manifest import Manifest
from roadbed.sources.manifest import DatabaseSource, FilesSource, HttpSource, McpSource, ObjectsSource, SourceConfig
from roadbed.tools.providers.platform import NAME as PLATFORM_STATUS

NAMES_LISTED_MAX = 20


def check_app_tools(manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    """What is wrong with ``tools`` and ``links`` of the apps."""
    explored = [
        f"{name}_{verb}"
        for name, source in manifest.sources.items()
        if isinstance(source, DatabaseSource) and source.explore
        for verb in ("tables", "describe", "query")
    ]
    # What an API or another server offers is named after its source, and known when its document or lock is read.
    others = [f"{name}_" for name, source in manifest.sources.items() if _names_tools_itself(source)]
    names = [*manifest.tools, *explored, PLATFORM_STATUS]
    used = {tool.source for tool in manifest.tools.values()} | {name[:-1] for name in others}
    used |= {name for name in manifest.sources if f"{name}_query" in explored}
    for app, config in manifest.apps.items():
        if config.kind != "copilot":
            for key, value in (("tools", config.tools), ("links", config.links)):
                if value:
                    yield document.error(f"`{key}` is for apps of kind copilot", ("apps", app, key))
            continue
        for place, entry in enumerate(config.tools):
            is_known = entry in used or any(name.startswith(entry) for name in (*names, *others))
            if is_known or any(entry.startswith(name) for name in others):
                continue
            if entry in manifest.sources:
                hint = "declare a tool of it, or give it `explore: true`"
                yield document.error(f"the source `{entry}` has no tools", ("apps", app, "tools", place), hint=hint)
                continue
            hint = nearest(entry, [*names, *used]) or f"tools: {', '.join(names[:NAMES_LISTED_MAX])}"
            yield document.error(f"there is no tool named `{entry}`", ("apps", app, "tools", place), hint=hint)


def _names_tools_itself(source: SourceConfig) -> bool:
    if isinstance(source, FilesSource):
        return source.explore
    return isinstance(source, HttpSource | McpSource | ObjectsSource)
