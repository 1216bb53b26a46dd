"""The limits that a worker process puts on itself before it touches a stranger's file.

Address space, CPU time per file, no file writes, few descriptors, death with its parent, no new privileges, and
(Linux on x86-64 and AArch64) a system call filter without sockets and without starting programs. Called once by
``worker``. What a platform lacks is returned by name, so that ``doctor`` can tell: macOS ignores the address space
limit and has no filter.
"""

from __future__ import annotations

import ctypes
import platform
import resource
import struct

from roadbed.store import worker_limits

OPEN_FILES_MAX = 32
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_SECCOMP_ALLOW = 0x7FFF0000
_SECCOMP_EPERM = 0x00050001
_SECCOMP_KILL = 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
# socket, socketpair, connect, bind, listen, sendto, sendmsg, execve, execveat, fork, vfork, ptrace, io_uring_setup,
# process_vm_readv, process_vm_writev, userfaultfd, keyctl, bpf, perf_event_open, kill, tkill, tgkill (sending to
# others)
_DENIED = {
    "x86_64": (0xC000003E, (41, 53, 42, 49, 50, 44, 46, 59, 322, 57, 58, 101, 425, 310, 311, 323, 250, 321, 298, 62)),
    "aarch64": (0xC00000B7, (198, 199, 203, 200, 201, 206, 211, 221, 281, 117, 425, 270, 271, 282, 219, 280, 241, 129)),
}
_X32_BIT = 0x40000000


def enter(*, memory_bytes_max: int, parent: int) -> tuple[str, ...]:
    """Apply every limit; the names of those that this platform does not offer come back."""
    missing, libc = worker_limits.enter(memory_bytes_max=memory_bytes_max, parent=parent)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES_MAX, OPEN_FILES_MAX))
    is_filtered = libc is not None and _filter_system_calls(libc)
    return missing if is_filtered else (*missing, "system_calls")


def allow_cpu(seconds: int) -> None:
    """Give the process ``seconds`` of CPU from now on: the limit is cumulative, the allowance is per file."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + 1 + seconds, hard))


def _filter_system_calls(libc: ctypes.CDLL) -> bool:
    """Install a classic BPF program (seccomp(2)) that answers EPERM to the denied calls."""
    if platform.machine() not in _DENIED:
        return False
    architecture, denied = _DENIED[platform.machine()]
    count = len(denied)
    program = [
        struct.pack("HBBI", _LOAD, 0, 0, 4),
        struct.pack("HBBI", _JUMP_EQUAL, 1, 0, architecture),
        struct.pack("HBBI", _RETURN, 0, 0, _SECCOMP_KILL),
        struct.pack("HBBI", _LOAD, 0, 0, 0),
        struct.pack("HBBI", _JUMP_AT_LEAST, count + 1, 0, _X32_BIT),
        # A match jumps over the remaining comparisons and over ALLOW, onto EPERM; so does an x32 number.
        *(struct.pack("HBBI", _JUMP_EQUAL, count - position, 0, number) for position, number in enumerate(denied)),
        struct.pack("HBBI", _RETURN, 0, 0, _SECCOMP_ALLOW),
        struct.pack("HBBI", _RETURN, 0, 0, _SECCOMP_EPERM),
    ]
    code = ctypes.create_string_buffer(b"".join(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(header), 0, 0) == 0)
