"""The leak check of `tests/conftest.py`: a test that leaves a task, a thread or a process behind fails."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LEAKY = """
import asyncio, subprocess, sys, threading

kept = []

async def test_task():
    kept.append(asyncio.create_task(asyncio.sleep(60), name="forgotten"))

def test_thread():
    threading.Thread(target=threading.Event().wait, daemon=True, name="idle-thread").start()

def test_process():
    kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))

def teardown_module():
    for left in kept:
        if isinstance(left, subprocess.Popen):
            left.kill()
            left.wait()

async def test_clean():
    await asyncio.create_task(asyncio.sleep(0))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await process.wait()
"""


async def test_what_is_left_behind_fails_the_test(tmp_path: Path) -> None:
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--tb=line", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTEST_ADDOPTS": "", "ROADBED_LEAVE_S": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    output = (await process.communicate())[0].decode()
    assert "leaked tasks: forgotten" in output
    assert "leaked threads: idle-thread" in output
    assert "leaked processes: " in output
    assert "4 passed, 3 errors" in output
