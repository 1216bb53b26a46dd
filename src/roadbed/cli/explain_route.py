"""``roadbed explain-route``: the same as ``roadbed routes explain``."""

from __future__ import annotations

from roadbed.cli.routes import SUMMARY, add_explain_arguments, run

EXAMPLE = "  roadbed explain-route smart --label confidential,region:eu"
configure = add_explain_arguments
__all__ = ["EXAMPLE", "SUMMARY", "configure", "run"]
