"""Starts a worker process of ours: a module of this package that is spoken to over its standard input and output.

For whoever lets a process apart read what strangers made (``knowledge/parse/pool``, ``sources/duckdb``), or what is
large (``ledger/audit_apart``). The process limits itself (``worker_limits``) as its first act, and is told its parent's
id for that. The invariant: it is given nothing of the server's environment, folder or terminal, and is a process group
of its own, so that a kill reaches what it started.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from pathlib import Path

import roadbed

BUFFER_BYTES = 64 * 1024
_PACKAGE_ROOT = str(Path(roadbed.__file__).resolve().parents[1])


async def start_worker(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, buffer_bytes: int = BUFFER_BYTES
) -> Process:
    """``python -m module PARENT ARGUMENTS`` with pipes to it; ``environment`` joins the bare one. Raises `OSError`.

    ``buffer_bytes`` is what its output may run ahead of who reads it.
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-B", "-P", "-s", "-X", "utf8", "-m", module, str(os.getpid()), *arguments),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": _PACKAGE_ROOT, "LANG": "C.UTF-8", **(environment or {})},
        cwd="/",
        start_new_session=True,
        limit=buffer_bytes,
    )
