"""Give freed memory back to the system after rare and large work.

glibc keeps what a thread has freed for that thread: each new one that looks through files of some megabytes would leave
twenty more behind. Elsewhere this does nothing.
"""

from __future__ import annotations

import ctypes


def give_back_memory() -> None:
    """Blocks for some milliseconds: call it in a thread, and seldom."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
