"""EPUB: the chapters of the spine in order, each read as HTML.

Called by ``dispatch``. A book whose chapters are under rights management is an ``encrypted`` failure; obfuscated
fonts are not.
"""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from roadbed.knowledge.parse.archive import Archive, attribute, child, local
from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, ParseFailure, one_line
from roadbed.knowledge.parse.encoding import decode
from roadbed.knowledge.parse.html import read_html
from roadbed.knowledge.parse.versions import parser_name

PARSER = parser_name("epub")
CHAPTERS_MAX = 5_000
_FONTS = (".ttf", ".otf", ".woff", ".woff2")


def parse_epub(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read an EPUB book."""
    archive = Archive(data, name)
    protection = archive.optional_xml("META-INF/encryption.xml")
    if protection is not None:
        targets = [attribute(item, "URI") or "" for item in protection.iter() if local(item) == "CipherReference"]
        if any(not target.lower().endswith(_FONTS) for target in targets):
            raise ParseFailure("encrypted", f"{name} is under rights management")
    roots = child(archive.xml("META-INF/container.xml"), "rootfiles")
    package_part = next((attribute(item, "full-path") or "" for item in roots), "") if roots is not None else ""
    package = archive.xml(package_part)
    folder = posixpath.dirname(package_part)
    builder = DocumentBuilder()
    metadata = child(package, "metadata")
    for item in metadata if metadata is not None else ():
        if local(item) == "title" and not builder.title:
            builder.title = one_line(item.text or "")
        elif local(item) == "language" and builder.language is None:
            builder.language = one_line(item.text or "") or None
    manifest, spine = child(package, "manifest"), child(package, "spine")
    parts = {attribute(item, "id"): item for item in manifest} if manifest is not None else {}
    for number, reference in enumerate(spine if spine is not None else (), 1):
        chapter = parts.get(attribute(reference, "idref"))
        if chapter is None or builder.full or number > CHAPTERS_MAX:
            continue
        part = posixpath.normpath(posixpath.join(folder, unquote(attribute(chapter, "href") or "")))
        if "nav" in (attribute(chapter, "properties") or "") or part not in archive:
            continue
        read_html(builder, decode(archive.read(part))[0], location=f"chapter {number}")
    return builder.finish(name=name, parser=PARSER, media_type="application/epub+zip")
