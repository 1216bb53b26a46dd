"""A small office document around planted text: its bytes are packed, so that only who reads its text sees a value.

An upload that is text loses its secrets before it is kept; the guard of what is read stands behind that and would be
missed by nobody. Of such a document it is the only one. Pure; the same bytes for the same text.
"""

from __future__ import annotations

import io
import zipfile
from typing import Final
from xml.sax.saxutils import escape

MEDIA_TYPE: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_MADE = (1980, 1, 1, 0, 0, 0)
_PACKAGES = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
_TYPES = (
    f'<Types xmlns="{_PACKAGES}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/word/document.xml" ContentType="{MEDIA_TYPE}.main+xml"/></Types>'
)
_ROOT = (
    f'<Relationships xmlns="{_PACKAGES}/relationships"><Relationship Id="r1" '
    f'Type="{_OFFICE}/relationships/officeDocument" Target="word/document.xml"/><Relationship Id="r2" '
    f'Type="{_PACKAGES}/relationships/metadata/core-properties" Target="docProps/core.xml"/></Relationships>'
)


def office_document(title: str, text: str) -> bytes:
    """A document with a title and one paragraph."""
    core = (
        f'<cp:coreProperties xmlns:cp="{_PACKAGES}/metadata/core-properties" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(title)}</dc:title></cp:coreProperties>'
    )
    body = (
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r>'
        f'<w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p></w:body></w:document>'
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        parts = {"[Content_Types].xml": _TYPES, "_rels/.rels": _ROOT, "word/document.xml": body}
        for name, part in (parts | {"docProps/core.xml": core}).items():
            entry = zipfile.ZipInfo(name, _MADE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, part.encode())
    return out.getvalue()
