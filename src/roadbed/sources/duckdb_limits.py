"""The limits that a DuckDB worker puts on itself before it opens anything.

No writes to any file (Landlock on Linux, and a file size of nothing everywhere), bounded address space, no core dumps,
death with its parent. They stand behind DuckDB's own lock-down: a hole in that would still not write to a file. What a
platform lacks is returned by name.
"""

from __future__ import annotations

import ctypes
import os

from roadbed.store import worker_limits

_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_VERSION = 1
# execute, write to a file, remove folders and files, make any kind of entry; refer (2) and truncate (3) by version.
_WRITES = 0b1_1111_1111_0011
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_NETWORK = 0b11
_NETWORK_SINCE = 4


def enter(*, memory_bytes_max: int, parent: int) -> tuple[str, ...]:
    """Apply every limit; the names of those that this platform does not offer come back."""
    missing, libc = worker_limits.enter(memory_bytes_max=memory_bytes_max, parent=parent)
    is_refusing = libc is not None and _refuse_writes(libc)
    return missing if is_refusing else (*missing, "file_writes")


def _refuse_writes(libc: ctypes.CDLL) -> bool:
    """Have the kernel refuse every change of the file system, and connections, to this process and its threads."""
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return False
    handled = _WRITES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    network = _NETWORK if version >= _NETWORK_SINCE else 0
    attribute = (ctypes.c_uint64 * 2)(handled, network)
    size = 16 if network else 8
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(attribute), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    is_done: bool = libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return is_done
