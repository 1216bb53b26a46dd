"""The pool: limits end a worker and become a reason, and nothing of the server's environment reaches it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roadbed.knowledge.parse.document import ParseFailure
from roadbed.knowledge.parse.pool import ParserPool


def _of_process(process_id: int, what: str) -> str:
    return (Path("/proc") / str(process_id) / what).read_text()


@pytest.fixture
async def pool() -> AsyncIterator[ParserPool]:
    async with ParserPool() as pool:
        yield pool


async def test_bytes_and_path_give_the_same_document(pool: ParserPool, tmp_path: Path) -> None:
    source = b"# Leave\n\nTwenty-five days.\n"
    (tmp_path / "leave.md").write_bytes(source)
    from_bytes = await pool.parse(source, name="leave.md")
    from_path = await pool.parse(tmp_path / "leave.md", name="leave.md")
    assert from_bytes == from_path
    assert from_bytes.title == "Leave"


async def test_no_process_before_first_use(pool: ParserPool) -> None:
    assert pool.process_ids == ()
    await pool.parse(b"text", name="a.txt")
    assert len(pool.process_ids) == 1


async def test_failure_keeps_the_worker(pool: ParserPool) -> None:
    await pool.parse(b"text", name="a.txt")
    before = pool.process_ids
    with pytest.raises(ParseFailure) as caught:
        await pool.parse(b"", name="a.txt")
    assert caught.value.reason == "empty"
    assert pool.process_ids == before


async def test_missing_file_and_folder_are_named(pool: ParserPool, tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(ParseFailure) as caught:
            await pool.parse(path, name="absent.txt")
        assert caught.value.reason == "missing"


async def test_recycled_after_its_share_of_files() -> None:
    async with ParserPool(recycle_after=2) as pool:
        seen: set[int] = set()
        for _ in range(4):
            await pool.parse(b"text", name="a.txt")
            seen.update(pool.process_ids)
        assert pool.process_ids == ()
        assert len(seen) == 2


async def test_wall_limit_is_a_result() -> None:
    async with ParserPool(wall_s_max=0.0) as pool:
        with pytest.raises(ParseFailure) as caught:
            await pool.parse(b"text", name="a.txt")
        assert caught.value.reason == "timeout"
        assert pool.process_ids == ()


async def test_cpu_limit_is_a_result() -> None:
    """A thousand million spaces of quadratic work are not needed: a stopped clock is, so the signal is sent as the
    kernel would.
    """
    async with ParserPool() as pool:
        await pool.parse(b"text", name="a.txt")
        os.kill(pool.process_ids[0], signal.SIGXCPU)
        with pytest.raises(ParseFailure) as caught:
            await pool.parse(b"text", name="a.txt")
        assert caught.value.reason == "timeout"
        assert (await pool.parse(b"text", name="a.txt")).text == "text"


async def test_memory_limit_is_a_result() -> None:
    async with ParserPool(memory_bytes_max=128 * 1024 * 1024) as pool:
        with pytest.raises(ParseFailure) as caught:
            await pool.parse(b"word " * 12_000_000, name="a.txt")
        assert caught.value.reason == "memory"
        assert "128 MB" in caught.value.message
        assert (await pool.parse(b"text", name="a.txt")).text == "text"


async def test_output_limit_is_a_result() -> None:
    async with ParserPool(output_bytes_max=1_000) as pool:
        with pytest.raises(ParseFailure) as caught:
            await pool.parse(b"word " * 1_000, name="a.txt")
        assert caught.value.reason == "too_large"


async def test_a_killed_worker_is_replaced() -> None:
    async with ParserPool() as pool:
        await pool.parse(b"text", name="a.txt")
        os.kill(pool.process_ids[0], signal.SIGSEGV)
        with pytest.raises(ParseFailure) as caught:
            await pool.parse(b"text", name="a.txt")
        assert caught.value.reason == "crashed"
        assert (await pool.parse(b"text", name="a.txt")).text == "text"


async def test_cancelling_kills_the_worker_and_frees_its_place() -> None:
    async with ParserPool() as pool:
        await pool.parse(b"text", name="a.txt")
        task = asyncio.create_task(pool.parse(b"word " * 1_000_000, name="a.txt"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await pool.parse(b"text", name="a.txt")).text == "text"


async def test_worker_inherits_no_secret(pool: ParserPool) -> None:
    os.environ["ROADBED_TEST_SECRET"] = "do-not-inherit"
    try:
        await pool.parse(b"text", name="a.txt")
        environment = _of_process(pool.process_ids[0], "environ")
    finally:
        del os.environ["ROADBED_TEST_SECRET"]
    assert "do-not-inherit" not in environment


async def test_limits_are_in_force(pool: ParserPool) -> None:
    await pool.parse(b"text", name="a.txt")
    limits = _of_process(pool.process_ids[0], "limits")
    status = _of_process(pool.process_ids[0], "status")
    assert str(768 * 1024 * 1024) in limits
    assert "Max open files            32" in limits
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status
    assert os.getpgid(pool.process_ids[0]) == pool.process_ids[0]


async def test_idle_workers_end() -> None:
    async with ParserPool(idle_s_max=0.0) as pool:
        await pool.parse(b"text", name="a.txt")
        async with asyncio.timeout(60):
            while pool.process_ids:  # noqa: ASYNC110 - the pool's own timer does it
                await asyncio.sleep(0)
        assert (await pool.parse(b"text", name="a.txt")).text == "text"


async def test_closed_pool_refuses_and_close_ends_a_running_file() -> None:
    pool = ParserPool()
    await pool.parse(b"text", name="a.txt")
    task = asyncio.create_task(pool.parse(b"word " * 2_000_000, name="a.txt"))
    await asyncio.sleep(0)
    await pool.close()
    with pytest.raises(ParseFailure):
        await task
    with pytest.raises(RuntimeError):
        await pool.parse(b"text", name="a.txt")
