"""Small office files for the tests, from parts written by hand; handed to tests as fixtures that are functions."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping

import pytest

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def make_zip(parts: Mapping[str, str | bytes]) -> bytes:
    """A zip container with the given parts in order."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target.getvalue()


def make_docx(body: str, **others: str) -> bytes:
    """A Word document with the given body XML; further parts by file name inside ``word/`` without its suffix."""
    relations = "".join(
        f'<Relationship Id="r{name}" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{name}" '
        f'Target="{name}.xml"/>'
        for name in others
    )
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>',
        "word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>',
        "word/_rels/document.xml.rels": f"<Relationships>{relations}</Relationships>",
    }
    return make_zip(parts | {f"word/{name}.xml": content for name, content in others.items()})


@pytest.fixture(scope="session")
def zip_of() -> Callable[[Mapping[str, str | bytes]], bytes]:
    """A zip container with the given parts in order."""
    return make_zip


@pytest.fixture(scope="session")
def docx_of() -> Callable[..., bytes]:
    """A Word document with the given body XML; further parts by name."""
    return make_docx
