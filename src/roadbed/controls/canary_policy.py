"""Where each planted value of the canary may stand: the guard's defaults, as a table. Pure.

Personal data stays in the stored text of sources and goes to local models and back to its own caller; secrets stay
nowhere but in the control's own database (what an office file packs, no search of bytes finds); nothing of either is in
a record, a log, a metric, or at a model elsewhere.
"""

from __future__ import annotations

from typing import Final

from roadbed.controls.planted import Value

SELF_TEST: Final = "self-test"
STORED: Final = ("document", "title")
TOOL: Final = "tool"
OWN_TITLE: Final = "analytics-own"
SOURCE: Final = "books"
SOURCE_PLACES: Final = ("run/canary-books",)
ORIGINALS: Final = "objects/"
LOCAL_MODELS: Final = ("model:local", "model:broken")
TEXT_TABLES: Final = ("document", "chunk", "lex_", "vector_cache", "passage")
SELF_TEST_PLACES: Final = ("table:control_plant", "postgres/", "log", "run/")
AUDIT_PLACES: Final = ("table:audit_record", "postgres/", "audit/")


def is_allowed(value: Value, sink: str, *, shows_secrets: bool = False) -> bool:
    """Whether policy keeps this value there; ``shows_secrets`` where a rule lets what models write reach callers."""
    path, is_secret = value.path, value.kind == "secret"
    if path == SELF_TEST:
        return sink.startswith(SELF_TEST_PLACES)
    if path == "record":
        return not is_secret and sink.startswith(AUDIT_PLACES)
    if path == SOURCE and sink.startswith(SOURCE_PLACES):
        return True
    if path in STORED and sink.startswith(ORIGINALS):  # secrets are replaced in originals that are text
        return not is_secret
    if path == OWN_TITLE:  # what a caller asked is the title of what is answered to that caller
        return sink == f"answer:{OWN_TITLE}" or (not is_secret and sink in LOCAL_MODELS)
    if sink == TOOL:  # a tool is told what a caller tells it, less secrets
        return not is_secret
    if sink.startswith("answer:"):
        return not is_secret or (shows_secrets and path == "told")
    if is_secret:
        return False
    if path in STORED:
        return sink.startswith(("postgres/", *LOCAL_MODELS, "embedder")) or (
            sink.startswith("table:") and sink.removeprefix("table:").startswith(TEXT_TABLES)
        )
    return sink in (*LOCAL_MODELS, "embedder")
