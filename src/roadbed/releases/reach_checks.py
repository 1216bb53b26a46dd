"""What `roadbed check` looks at in sources of type ``http`` and ``objects``. Reads the document, asks no system.

Called by `workspace`. The invariant: every fault that would stop such a source from giving tools is found here, with
its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from roadbed.kernel.config import Document, KeyPath
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import is_reference
from roadbed.sources.http import auth_way, base_url
from roadbed.sources.manifest import HttpSource, ObjectsSource
from roadbed.sources.objects import prefix_of
from roadbed.tools.openapi.document import read_document

_REFERENCE_HINT = "env:NAME or file:PATH"


def check_reach(
    folder: Path, name: str, source: HttpSource | ObjectsSource, document: Document
) -> Iterator[ConfigError]:
    """The faults of one source."""
    path: KeyPath = ("sources", name)
    if isinstance(source, ObjectsSource):
        yield from _check_objects(name, source, document, path)
        return
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


def _check_objects(name: str, source: ObjectsSource, document: Document, path: KeyPath) -> Iterator[ConfigError]:
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
