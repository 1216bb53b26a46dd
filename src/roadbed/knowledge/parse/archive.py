"""Zip containers of strangers: what may be read out of one, and how much of it.

Owns the bounds on archives and the reading of XML parts and their relations (Open Packaging Conventions). Called by
the office, OpenDocument and EPUB parsers; nothing is ever written to disk, and a zip inside a zip is never opened.
The invariant: not more than 200 MB leave one archive, whatever sizes its directory claims, and no XML part with a
DTD is accepted.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from typing import TYPE_CHECKING
from urllib.parse import unquote

from roadbed.knowledge.parse.document import ParseFailure

if TYPE_CHECKING:
    from lxml.etree import _Element

INFLATED_BYTES_MAX = 200 * 1000 * 1000
RATIO_MAX = 100
RATIO_EXEMPT_BYTES = 4 * 1024 * 1024
"""A part of this size is harmless at any ratio; blank forms reach 200:1."""
ENTRIES_MAX = 20_000
_CHUNK_BYTES = 1 << 16


class Archive:
    """One zip container, opened read-only; raises `ParseFailure` (``corrupt``, ``archive_bomb``, ``encrypted``)."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise ParseFailure("corrupt", f"{name} is a damaged zip container") from error
        entries = self._zip.infolist()
        self._entries = {entry.filename.lstrip("/"): entry for entry in entries}
        self._folded = {name.lower(): name for name in self._entries}
        self._left = INFLATED_BYTES_MAX
        if len(entries) > ENTRIES_MAX or sum(entry.file_size for entry in entries) > INFLATED_BYTES_MAX:
            raise self._bomb()
        for entry in entries:
            if entry.file_size > RATIO_EXEMPT_BYTES and entry.file_size > RATIO_MAX * max(entry.compress_size, 1):
                raise self._bomb()

    def __contains__(self, part: str) -> bool:
        return self._real(part) is not None

    @property
    def names(self) -> list[str]:
        """Every part, in directory order."""
        return list(self._entries)

    def read(self, part: str) -> bytes:
        """The bytes of one part, counted while they inflate; a missing part raises KeyError."""
        real = self._real(part)
        if real is None:
            raise KeyError(part)
        entry = self._entries[real]
        if entry.flag_bits & 1:
            raise ParseFailure("encrypted", f"{self.name} is protected with a password")
        bound = max(RATIO_EXEMPT_BYTES, RATIO_MAX * entry.compress_size)
        pieces: list[bytes] = []
        total = 0
        try:
            with self._zip.open(entry) as file:
                while piece := file.read(_CHUNK_BYTES):
                    total += len(piece)
                    if total > bound or total > self._left:
                        raise self._bomb()
                    pieces.append(piece)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ParseFailure("corrupt", f"{self.name} is a damaged zip container") from error
        self._left -= total
        return b"".join(pieces)

    def xml(self, part: str) -> _Element:
        """The root of an XML part; KeyError when it is missing."""
        return read_xml(self.read(part), self.name)

    def optional_xml(self, part: str) -> _Element | None:
        """The root of an XML part, or None when the archive has no such part."""
        return self.xml(part) if part in self else None

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """``{id: (last word of the type, part)}`` of a package part; ``""`` asks for the package itself.

        External ones are left out.
        """
        folder, base = posixpath.split(part)
        root = self.optional_xml(posixpath.join(folder, "_rels", f"{base}.rels"))
        found: dict[str, tuple[str, str]] = {}
        for relation in root if root is not None else ():
            target = relation.get("Target") or ""
            if relation.get("TargetMode") == "External" or not target:
                continue
            path = unquote(target.split("#")[0])
            resolved = path.lstrip("/") if path.startswith("/") else posixpath.normpath(posixpath.join(folder, path))
            found[relation.get("Id") or ""] = ((relation.get("Type") or "").rsplit("/", 1)[-1], resolved)
        return found

    def main_part(self, usual: str) -> str:
        """The part that the package names as its office document, else ``usual``."""
        for kind, part in self.relations("").values():
            if kind == "officeDocument" and part in self:
                return part
        if usual not in self:
            raise ParseFailure("corrupt", f"{self.name} has no {usual}")
        return usual

    def related(self, part: str, kind: str) -> _Element | None:
        """The root of the first part that ``part`` relates to as ``kind`` ("styles", "footnotes"), or None."""
        for found, target in self.relations(part).values():
            if found == kind and target in self:
                return self.xml(target)
        return None

    def _real(self, part: str) -> str | None:
        part = part.lstrip("/")
        return part if part in self._entries else self._folded.get(part.lower())

    def _bomb(self) -> ParseFailure:
        return ParseFailure(
            "archive_bomb",
            f"{self.name} unpacks to over {INFLATED_BYTES_MAX // 1_000_000} MB or {RATIO_MAX} times its size",
            hint="if the file is honest, split it",
        )


def read_xml(data: bytes, name: str) -> _Element:
    """Parse one XML part without entities, network and huge trees; refuses any DTD (``unsafe``)."""
    from lxml import etree

    reader = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, reader)
    except etree.XMLSyntaxError as error:
        if b"<!DOCTYPE" in data[:4096] or b"<!ENTITY" in data:
            raise ParseFailure("unsafe", f"{name} carries a document type definition") from error
        raise ParseFailure("corrupt", f"{name} holds broken XML") from error
    if root is None:
        raise ParseFailure("corrupt", f"{name} holds an empty XML part")
    if getattr(root.getroottree().docinfo, "doctype", ""):
        raise ParseFailure(
            "unsafe", f"{name} carries a document type definition", hint="save the file again with an office program"
        )
    return root


def local(element: _Element) -> str:
    """The tag of an element without its namespace; an empty string for comments and the like."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: _Element, name: str) -> str | None:
    """An attribute by its local name, whatever namespace the producer chose (transitional or strict)."""
    value = element.get(name)
    if value is not None:
        return value
    for key, other in element.items():
        if str(key).rpartition("}")[2] == name:
            return str(other)
    return None


def child(element: _Element | None, *path: str) -> _Element | None:
    """The first descendant along local names, or None."""
    for name in path:
        if element is None:
            return None
        element = next((item for item in element if local(item) == name), None)
    return element


def core_properties(archive: Archive) -> tuple[str, str | None]:
    """``(title, language)`` from the package's core properties."""
    for kind, part in archive.relations("").values():
        if kind == "core-properties" and part in archive:
            try:
                root = archive.xml(part)
            except ParseFailure:
                return "", None
            fields = {local(item): (item.text or "").strip() for item in root}
            return fields.get("title", ""), fields.get("language") or None
    return "", None
