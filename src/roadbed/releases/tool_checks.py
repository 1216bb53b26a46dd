"""The manifest's tools against its sources: every tool that cannot work is named, with its line. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from roadbed.kernel.config import Document, nearest, parse_duration_s
from roadbed.kernel.errors import ConfigError, RoadbedError
from roadbed.kernel.label import parse_label
from roadbed.kernel.limits import parse_rate
from roadbed.releases.manifest import Manifest
from roadbed.sources.manifest import DatabaseSource, MysqlSource, PostgresSource
from roadbed.tools.manifest import ToolConfig
from roadbed.tools.providers.sql import check_declared


def check_tools(manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    """What is wrong with ``tools`` and with what sources say for tools."""
    taken: dict[str, str] = {"platform_status": "the deployment"}
    for name, source in manifest.sources.items():
        if not isinstance(source, DatabaseSource):
            continue
        for place in source.mask:
            if "." not in place:
                hint = "write table.column"
                yield document.error(f"`{place}` is no column", ("sources", name, "mask", place), hint=hint)
        write_dsn = source.write_dsn if isinstance(source, PostgresSource | MysqlSource) else ""
        if write_dsn and ":" not in write_dsn:
            hint = "env:NAME, file:PATH" + (" or embedded:NAME" if isinstance(source, PostgresSource) else "")
            yield document.error("`write_dsn` must be a reference", ("sources", name, "write_dsn"), hint=hint)
        if source.explore:
            for suffix in ("tables", "describe", "query"):
                taken[f"{name}_{suffix}"] = f"the source {name}"
    for name, tool in manifest.tools.items():
        if name in taken:
            yield document.error(f"`{name}` is the name of a tool of {taken[name]}", ("tools", name), hint="rename it")
        yield from _check_tool(name, tool, manifest, document)


def _check_tool(name: str, tool: ToolConfig, manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    source = manifest.sources.get(tool.source)
    if source is None:
        hint = nearest(tool.source, list(manifest.sources)) or f"sources: {', '.join(manifest.sources) or 'none'}"
        yield document.error(f"there is no source named `{tool.source}`", ("tools", name, "source"), hint=hint)
    if isinstance(source, DatabaseSource):
        try:
            check_declared(name, tool, source)
        except RoadbedError as error:
            yield document.error(error.message, ("tools", name), hint=error.hint)
    for key, text, parse in (("rate", tool.rate, parse_rate), ("stale_max", tool.stale_max, parse_duration_s)):
        try:
            if text:
                parse(text)
        except ConfigError as error:
            yield document.error(error.message, ("tools", name, key), hint=error.hint)
    try:
        parse_label(tool.labels)
    except ConfigError as error:
        yield document.error(error.message, ("tools", name, "labels"), hint=error.hint)
    for parameter, config in tool.parameters.items():
        path = ("tools", name, "parameters", parameter)
        if not parameter.isidentifier():
            yield document.error(f"`{parameter}` cannot be the name of a parameter", path)
        try:
            re.compile(config.pattern)
        except re.error:
            yield document.error("`pattern` is not a regular expression", (*path, "pattern"))
