"""The manifest section ``collections``: documents of one or more sources, indexed together."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Language = Literal[
    "ar", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "hy", "it", "ja", "ko", "nl", "no", "pl", "pt", "ru",
    "sv", "ta", "th", "tr", "uk", "zh",
]  # fmt: skip
"""What `language.detect_language` tells apart."""


class CollectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Documents of one or more sources. A source's table is written ``source.table``."""

    sources: Annotated[list[str], Meta(min_length=1, description="sources, or source.table")]
    languages: Annotated[
        list[Language],
        Meta(description="languages of its questions (`en`, `de`, ...); found from its documents when left out"),
    ] = []
    chunk_tokens: Annotated[int, Meta(ge=64, le=256, description="target size of a chunk, model tokens")] = 220
