"""What a thread has freed goes back to the system."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from roadbed.kernel.memory import give_back_memory

PIECE_BYTES, PIECES, KEPT_EVERY = 64 * 1024, 800, 40


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def used_and_freed() -> list[bytearray]:
    """Uses some memory, and keeps pieces between what it frees: so nothing goes back by itself."""
    pieces = [bytearray(b"x") * PIECE_BYTES for _ in range(PIECES)]
    return pieces[KEPT_EVERY - 1 :: KEPT_EVERY]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library gives memory back by itself")
def test_memory_that_a_thread_has_freed_goes_back() -> None:
    with ThreadPoolExecutor(1) as pool:
        kept = pool.submit(used_and_freed).result()
        before = resident_bytes()
        give_back_memory()
        assert before - resident_bytes() > PIECE_BYTES * PIECES // 2
        assert len(kept) == PIECES // KEPT_EVERY
