"""The limits that every worker process of ours puts on itself before it touches what strangers made.

No core dumps, no writes to files by size, bounded address space, and death with its parent. ``knowledge/parse/sandbox``
and ``sources/duckdb_limits`` call it first and add what theirs need. The invariant: it is called before anything of a
stranger's is opened, and what a platform lacks is returned by name.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def enter(*, memory_bytes_max: int, parent: int) -> tuple[tuple[str, ...], ctypes.CDLL | None]:
    """Apply the limits; which of them this platform does not offer, and the C library where more can be asked of it.

    Ends the process when ``parent`` is gone already. macOS ignores the bound of address space.
    """
    missing: list[str] = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    except (ValueError, OSError):
        missing.append("memory")
    if sys.platform != "linux":
        return (*missing, "parent_death"), None
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        missing.append("parent_death")
    if os.getppid() != parent:
        os._exit(0)  # the parent died before the signal was armed
    return tuple(missing), libc
