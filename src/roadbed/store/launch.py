"""The small program that becomes PostgreSQL: drops privileges, ties its life to its parent, then execs.

Run by `store/postgres_process.py` as ``python -I -S launch.py PARENT UID GID FOLDER PROGRAM ARGUMENT...``, never
imported: a program of its own, because code between fork and exec in a process with threads can deadlock. It enters
FOLDER while it may still do so; PostgreSQL then calls it ``/proc/self/cwd``, so that no parent folder need be opened.
The invariant: when the parent dies, PostgreSQL gets SIGINT (its fast shutdown), also if that was before the exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
UNCHANGED = -1


def main(arguments: list[str]) -> None:
    """Never returns: the process becomes the named program, or ends with status 1."""
    parent, uid, gid = (int(argument) for argument in arguments[:3])
    folder, program = arguments[3], arguments[4]
    os.chdir(folder)
    os.setsid()
    os.umask(0o077)
    if uid != UNCHANGED:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid: the kernel forgets the death signal when credentials change.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:
        sys.exit(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.execv(program, arguments[4:])  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
