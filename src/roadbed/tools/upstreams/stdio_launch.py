"""Limits itself, then becomes a stdio MCP server: ``python -m roadbed.tools.upstreams.stdio_launch PARENT MIB NETWORK``
and, after ``--``, the server's program and arguments.

Bounded address space, descriptors and processes, no core dumps, no new privileges, death with its parent, and no
network unless the manifest gives it: a network namespace of its own, or where the kernel does not allow one, Landlock
without TCP. A server that cannot be kept from the network is not started. Standard library only, started for each
server anew.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

OPEN_FILES_MAX = 256
PROCESSES_MAX = 512
NOT_ISOLATED = 119
NOT_FOUND = 127

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_NETWORK_SINCE, _LANDLOCK_TCP = 4, 0b11


def main() -> None:
    """Limit this process and replace it."""
    parent, memory_mib_max, network = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "network"
    command = sys.argv[sys.argv.index("--") + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)
    if not network and not (_leave_network(libc) or _refuse_tcp(libc)):
        sys.exit(NOT_ISOLATED)
    memory_bytes_max = memory_mib_max * 1024 * 1024
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES_MAX),
        (resource.RLIMIT_NPROC, PROCESSES_MAX),
        (resource.RLIMIT_AS, memory_bytes_max),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))
    if sys.platform == "linux":
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)  # the parent died before the signal was armed
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError:
        sys.exit(NOT_FOUND)


def _leave_network(libc: ctypes.CDLL) -> bool:
    """Enter a network namespace without any interface; without rights, inside a user namespace with the same ids."""
    if sys.platform != "linux":
        return False
    if libc.unshare(_CLONE_NEWNET) == 0:
        return True
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _refuse_tcp(libc: ctypes.CDLL) -> bool:
    if sys.platform != "linux":
        return False
    if libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1) < _LANDLOCK_NETWORK_SINCE:
        return False
    attribute = (ctypes.c_uint64 * 2)(0, _LANDLOCK_TCP)
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, ctypes.byref(attribute), ctypes.c_size_t(16), 0)
    if ruleset < 0:
        return False
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0) == 0)


if __name__ == "__main__":
    main()
