"""What a copilot does before its model is asked: from the caller's last byte to the first one at the model.

The real server, guard on, with a workspace of so many chunks (written by a generator, or a folder of your own), and a
scripted model over HTTP in this process, which notes when a request's first byte comes. The time holds admission, the
masking of the question, its vector, the search in words and vectors under permissions, the passages and the prompt.
Questions differ, so that nothing is found in a cache. Callers ask one after the other, then several at a time.

Of generated papers `--read` chunks go through the product: parsed, guarded, embedded. The rest are rows written beside
them in the database, of the same texts and words in documents of their own, each with a vector that is a blend of two
real ones: what a search scores is as much, and only reading is spared. `--read 10000` reads them all.

    python bench/gateway/before_model.py [--chunks 10000] [--read 500] [--questions 400] [--at-once 1 4]
    python bench/gateway/before_model.py --folder PATH --ask FILE
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

import asyncpg
from run import KEY, REPLY, free_port, stop, versions

from roadbed.testing.first_controls import run_controls

PASSAGES_PER_FILE = 5
READY_S = 300
INGEST_S = 900
SEED = 7
MANIFEST = """name: before
endpoints:
  lab: {{type: openai, url: "http://127.0.0.1:{port}/v1", model: bench-model}}
models:
  smart: {{ladder: [lab]}}
sources:
  papers: {{type: files, path: {folder}}}
collections:
  all: {{sources: [papers]}}
apps:
  helpdesk: {{kind: copilot, model: smart, knowledge: [all]}}
"""
THINGS = (
    "invoice",
    "contract",
    "boiler",
    "permit",
    "roof",
    "meter",
    "parcel",
    "tenant",
    "deposit",
    "bridge",
    "pump",
    "lease",
)
PLACES = [f"{one}{two}" for one in ("Oster", "Wester", "Nord", "Sund", "Holm", "Berg") for two in ("vik", "by", "dal")]
ACTS = ("inspected", "repaired", "replaced", "approved", "refused", "measured", "insured", "sold", "registered")
FILLING = (
    "The file lists the dates of each visit, the persons who were there and what they agreed on",
    "Costs are shared between the owner and the municipality as the table in the annex says",
    "Whoever objects must write to the office within four weeks and name the number of the case",
    "The report was checked by a second engineer, who found the figures plausible and complete",
)


COPIES = (
    """INSERT INTO document (id, source, key, uri, title, acl_id, guarded_label, state, listed_version, version,
        content, blocks, language, media_type, parser, size_bytes, indexed_at)
    SELECT id || '-' || k, source, key || '-' || k, uri, title, acl_id, guarded_label, state, listed_version, version,
        content, blocks, language, media_type, parser, size_bytes, indexed_at
    FROM document, generate_series(1, {copies}) k""",
    """INSERT INTO chunk (generation, chunk_no, chunk_id, document_id, start_at, end_at, text, page, location,
        heading_path, vector_key)
    SELECT generation, chunk_no + k * {count}, chunk_id || '-' || k, document_id || '-' || k, start_at, end_at, text,
        page, location, heading_path, vector_key
    FROM chunk, generate_series(1, {copies}) k WHERE generation = {generation}""",
    """INSERT INTO chunk_lex (generation, chunk_no, dl, terms, tfs)
    SELECT generation, chunk_no + k * {count}, dl, terms, tfs
    FROM chunk_lex, generate_series(1, {copies}) k WHERE generation = {generation}""",
    """INSERT INTO lex_delta (generation, term_id, chunk_no, tf)
    SELECT generation, term_id, chunk_no + k * {count}, tf
    FROM lex_delta, generate_series(1, {copies}) k WHERE generation = {generation}""",
    """INSERT INTO chunk_vector_{generation} (chunk_no, embedding)
    SELECT a.chunk_no + k * {count}, l2_normalize(a.embedding + b.embedding)
    FROM generate_series(1, {copies}) k CROSS JOIN chunk_vector_{generation} a
    JOIN chunk_vector_{generation} b ON b.chunk_no = (a.chunk_no * 7 + k * 13) % {count}""",
    "UPDATE generation SET next_chunk_no = {count} * ({copies} + 1), epoch = epoch + 1 WHERE id = {generation}",
)
"""Rows of so many copies of the ``count`` chunks of a generation. All places are whole numbers."""


class Model(asyncio.Protocol):
    """Notes when a request's first byte comes, and answers with one completion."""

    arrivals: ClassVar[dict[bytes, float]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""
        self.first_s = 0.0

    def data_received(self, data: bytes) -> None:
        self.first_s = self.first_s if self.buffer else time.perf_counter()
        self.buffer += data
        head, blank, body = self.buffer.partition(b"\r\n\r\n")
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        if not blank or len(body) < int(length.partition(b":")[2]):
            return
        marker = body.rpartition(b"case ")[2][:8]
        Model.arrivals[marker] = self.first_s
        self.buffer = b""
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(REPLY) + REPLY
        )


def write_papers(folder: Path, chunks: int) -> None:
    """Papers of a few headed passages each, every one about its own case."""
    chance = random.Random(SEED)
    for number in range(-(-chunks // PASSAGES_PER_FILE)):
        parts = [f"# Case file {number:05d}\n"]
        for part in range(PASSAGES_PER_FILE):
            thing, place, act = chance.choice(THINGS), chance.choice(PLACES), chance.choice(ACTS)
            line = f"The {thing} of {place} {chance.randint(1, 400)} was {act} for {chance.randint(20, 90_000)} EUR."
            filling = ". ".join(chance.sample(FILLING, 3))
            parts.append(f"## {thing.capitalize()} {number}-{part}\n\n{line} {filling}. {filling}. {filling}.\n")
        target = folder / f"{number // 500:02d}"
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{number:05d}.md").write_text("\n".join(parts))


def questions(count: int, given: Path | None) -> list[str]:
    """Questions; each ends with a number of its own, by which the model tells them apart."""
    chance = random.Random(SEED + 1)
    if given is not None:
        lines = [line for line in given.read_text().splitlines() if line.strip()]
        asked = [chance.choice(lines) for _ in range(count)]
    else:
        asked = [
            f"When was the {chance.choice(THINGS)} of {chance.choice(PLACES)} {chance.randint(1, 400)} "
            f"{chance.choice(ACTS)}, and what did it cost? My address is ann.{number}@example.com."
            for number, _ in enumerate(range(count))
        ]
    return [f"{text} It is about case {number:08d}" for number, text in enumerate(asked)]


def get(port: int, path: str) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def start_server(folder: Path, papers: Path, model_port: int) -> tuple[subprocess.Popen[bytes], int]:
    """The server, once it is ready."""
    (folder / "workspace").mkdir()
    (folder / "workspace" / "roadbed.yaml").write_text(MANIFEST.format(port=model_port, folder=papers))
    port, ready = free_port(), folder / "ready.json"
    command = [sys.executable, "-m", "roadbed.cli.main", "up", str(folder / "workspace"), "--port", str(port)]
    command += ["--state", str(folder / "state"), "--ready-file", str(ready)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "ROADBED_ADMIN_KEY": KEY},
        start_new_session=True,
    )
    end = time.monotonic() + READY_S
    while not ready.exists():
        if time.monotonic() > end or process.poll() is not None:
            process.kill()
            raise SystemExit("roadbed did not become ready")
        time.sleep(0.1)
    run_controls(f"http://127.0.0.1:{port}", KEY)
    return process, port


def wait_for_chunks(port: int) -> int:
    """How many chunks there are once everything is read, reckoned from one document's."""
    end = time.monotonic() + INGEST_S
    while time.monotonic() < end:
        (source,) = get(port, "/api/sources")
        if source["state"] == "idle" and source["indexed"] and not source["pending"]:
            document = get(port, "/api/documents?source=papers&limit=1")
            listed = document["documents"] if isinstance(document, dict) else document
            return int(source["indexed"]) * len(get(port, f"/api/documents/{listed[0]['id']}/chunks"))
        time.sleep(1)
    raise SystemExit("the papers were not read in time")


async def multiply(state: Path, chunks: int) -> int:
    """Write copies of what was read until there are so many chunks; how many there are."""
    lines = (state / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
    password = json.loads((state / "postgres" / "passwords.json").read_text())["application"]
    connection = await asyncpg.connect(f"postgresql://roadbed:{password}@/roadbed?host={lines[4]}")
    try:
        (schema,) = await connection.fetchrow("SELECT schemaname FROM pg_tables WHERE tablename = 'generation'")
        await connection.execute(f'SET search_path TO "{schema}", public')
        async with connection.transaction():
            row = await connection.fetchrow(
                "SELECT id, next_chunk_no AS n FROM generation WHERE state = 'live' AND next_chunk_no > 0 FOR UPDATE"
            )
            copies = max(0, -(-chunks // row["n"]) - 1)
            for statement in COPIES:
                await connection.execute(statement.format(generation=row["id"], count=row["n"], copies=copies))
            await connection.execute("SELECT pg_notify('roadbed_index', $1)", str(row["id"]))
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return int(row["n"]) * (copies + 1)


async def ask_all(port: int, asked: list[str], at_once: int) -> list[float]:
    """Seconds from the request to the model's first byte."""
    waiting, taken = list(reversed(asked)), []

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        while waiting:
            question = waiting.pop()
            body = json.dumps({"model": "helpdesk", "messages": [{"role": "user", "content": question}]}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            begun = time.perf_counter()
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            arrived = Model.arrivals.pop(question[-8:].encode(), None)
            if arrived is not None:
                taken.append(arrived - begun)
        writer.close()

    await asyncio.gather(*(one() for _ in range(at_once)))
    return sorted(taken)


async def measure(options: argparse.Namespace, folder: Path) -> None:
    model_port = free_port()
    model = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", model_port)
    papers = options.folder.resolve() if options.folder else folder / "papers"
    if not options.folder:
        write_papers(papers, min(options.read, options.chunks))
    process, port = start_server(folder, papers, model_port)
    try:
        begun = time.monotonic()
        chunks = await asyncio.to_thread(wait_for_chunks, port)
        print(f"{chunks} chunks, read in {time.monotonic() - begun:.0f} s", flush=True)
        if not options.folder:
            begun = time.monotonic()
            chunks = await multiply(folder / "state", options.chunks)
            print(f"{chunks} chunks with the copies, written in {time.monotonic() - begun:.0f} s", flush=True)
        asked = questions(options.questions, options.ask)
        await ask_all(port, asked[:20], 1)
        for at_once in options.at_once:
            taken = await ask_all(port, asked, at_once)
            if not taken:
                raise SystemExit("the model was never asked: nothing was found")
            p50, p99 = (taken[int(len(taken) * share)] * 1000 for share in (0.5, 0.99))
            print(
                f"{at_once} at a time: {len(taken)} of {len(asked)} questions reached the model; "
                f"before the model p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {taken[-1] * 1000:.1f} ms",
                flush=True,
            )
    finally:
        await asyncio.to_thread(stop, process)
        model.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--read", type=int, default=500, help="how many of them are read; the rest are copies")
    parser.add_argument("--folder", type=Path, help="papers of your own instead of generated ones")
    parser.add_argument("--ask", type=Path, help="questions of your own, one a line")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rb-bench-"))
    folder.chmod(0o755)
    try:
        asyncio.run(measure(options, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(versions(argparse.Namespace(nginx=None, sglang_router=None)))


if __name__ == "__main__":
    main()
