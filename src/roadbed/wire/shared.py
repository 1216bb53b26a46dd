"""What the connections of one server share: its table of hot paths, its limits, the sweep of what is overdue.

Made once by whoever binds the protocol's class to a table. The invariant: nothing of one connection is in here.
"""

from __future__ import annotations

from typing import Any

from roadbed.wire.hot import HotTable
from roadbed.wire.request import render_headers
from roadbed.wire.sweep import Sweep


class Shared:
    """What the connections of one server share."""

    def __init__(self, table: HotTable) -> None:
        self.table = table
        self.limits = table.limits
        self.sweep: Sweep[Any] = Sweep(table.limits.sweep_s)
        self._defaults: list[tuple[bytes, bytes]] = []
        self._defaults_block = b""

    def fixed_headers(self, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """uvicorn's default headers as bytes; it makes a new list each second, for the date."""
        if defaults is not self._defaults:
            self._defaults = defaults
            self._defaults_block = render_headers(defaults)
        return self._defaults_block
