"""What `roadbed check` looks at in sources that tools reach: ``http``, ``objects``, and ``files`` with ``explore``.

Reads the documents of APIs, asks no system. The invariant: every fault that would stop such a source from giving tools
is found here, with its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from roadbed.kernel.config import Document, KeyPath
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import is_reference
from roadbed.releases.manifest import Manifest
from roadbed.sources.http import auth_way, base_url, check_http_auth
from roadbed.sources.manifest import FilesSource, HttpSource, McpSource, ObjectsSource
from roadbed.sources.objects import prefix_of
from roadbed.sources.reach import Reach
from roadbed.tools.openapi.document import read_document
from roadbed.tools.providers.http import http_tools
from roadbed.tools.upstreams.upstream import check_mcp_auth

_REFERENCE_HINT = "env:NAME or file:PATH"
_VERBS = {FilesSource: ("list", "read", "search"), ObjectsSource: ("list", "read")}


def check_reach(folder: Path, manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    """The faults of all such sources, and of the tools that are declared on HTTP ones."""
    for name, source in manifest.sources.items():
        if isinstance(source, McpSource):
            yield from _check_caller_auth(name, source, document)
        if isinstance(source, FilesSource) and not source.explore:
            continue
        for verb in _VERBS.get(type(source), ()):
            if f"{name}_{verb}" in manifest.tools:
                message = f"`{name}_{verb}` is the name of a tool of the source {name}"
                yield document.error(message, ("tools", f"{name}_{verb}"), hint="rename it")
        if isinstance(source, ObjectsSource):
            yield from _check_objects(name, source, document)
        elif isinstance(source, HttpSource):
            faults = [*_check_caller_auth(name, source, document), *_check_http(folder, name, source, document)]
            yield from faults or _check_operations(folder, name, manifest, document)


def left_out(folder: Path, manifest: Manifest) -> list[str]:
    """The operations of APIs that are listed and cannot be tools, each with its reason; the others serve."""
    apis = {name: source for name, source in manifest.sources.items() if isinstance(source, HttpSource)}
    if not apis:
        return []
    try:
        skipped = http_tools(apis, manifest.tools, folder, Reach(folder)).skipped
    except ConfigError:
        return []  # `check_reach` says it
    return [f"sources.{part.source}: {part.operation[:64]} is no tool: {part.reason}" for part in skipped]


def _check_http(folder: Path, name: str, source: HttpSource, document: Document) -> Iterator[ConfigError]:
    path: KeyPath = ("sources", name)
    try:
        base_url(name, source)
    except ConfigError as error:
        yield document.error(error.message, (*path, "url"))
    try:
        read_document(folder / source.openapi, shown_as=source.openapi)
    except ConfigError as error:
        yield error if error.line else document.error(f"{source.openapi}: {error.message}", (*path, "openapi"))
    if source.auth is not None:
        try:
            _, reference = auth_way(name, source.auth)
        except ConfigError as error:
            yield document.error(error.message, (*path, "auth"))
        else:
            if not is_reference(reference):
                yield document.error("`auth` must hold a reference", (*path, "auth"), hint=_REFERENCE_HINT)


def _check_caller_auth(name: str, source: HttpSource | McpSource, document: Document) -> Iterator[ConfigError]:
    auth = source.caller_auth
    if auth is None:
        return
    path: KeyPath = ("sources", name, "caller_auth")
    try:
        if isinstance(source, McpSource):
            check_mcp_auth(name, source)
        else:
            check_http_auth(name, source)
    except ConfigError as error:
        yield document.error(error.message, path, hint=error.hint)
    if auth.exchange is not None and auth.exchange.client_secret and not is_reference(auth.exchange.client_secret):
        message = "`client_secret` must be a reference"
        yield document.error(message, (*path, "exchange", "client_secret"), hint=_REFERENCE_HINT)


def _check_operations(folder: Path, name: str, manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    try:
        found = http_tools({name: manifest.sources[name]}, manifest.tools, folder, Reach(folder))
    except ConfigError as error:
        yield document.error(error.message, ("sources", name), hint=error.hint)
        return
    declared = {tool.operation: key for key, tool in manifest.tools.items() if tool.source == name}
    for part in found.skipped:  # one that is only listed is left out and the others serve
        if part.operation in declared:
            path = ("tools", declared[part.operation])
            yield document.error(f"the operation {part.operation[:64]} cannot be a tool: {part.reason}", path)
    for tool in found.tools:
        other = manifest.tools.get(tool.name)
        if other is not None and other.source != name:
            yield document.error(f"`{tool.name}` is the name of a tool of the source {name}", ("tools", tool.name))


def _check_objects(name: str, source: ObjectsSource, document: Document) -> Iterator[ConfigError]:
    path: KeyPath = ("sources", name)
    try:
        prefix_of(name, source.url)
    except ConfigError as error:
        yield document.error(error.message, (*path, "url"), hint=error.hint)
    for key in ("key", "secret", "token"):
        value = getattr(source, key)
        if value and not is_reference(value):
            yield document.error(f"`{key}` must be a reference", (*path, key), hint=_REFERENCE_HINT)
    if bool(source.key) != bool(source.secret):
        yield document.error("`key` and `secret` belong together", path)
