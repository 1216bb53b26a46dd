"""A llama.cpp server with a tiny model for tests: started at a free port, and ended as a crash would end it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ENGINE_PYTHON = HERE.parents[1] / ".venv" / "services" / "llama" / "bin" / "python"
MODEL = "tiny"
ANSWER_TOKENS_MAX = 96
"""What an engine lets a call without a limit of its own write, unless it is started with another one."""

START_S = 60.0
STOP_S = 30.0


@dataclass
class Engine:
    """A running llama.cpp server."""

    process: subprocess.Popen[bytes]
    root: str
    build: str

    @property
    def port(self) -> int:
        """Where it listens on loopback."""
        return int(self.root.rpartition(":")[2])

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait(STOP_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def tiny_model() -> Iterator[Path]:
    """The tiny model's file."""
    if not ENGINE_PYTHON.exists():
        pytest.fail("there is no llama.cpp server; run `make test-services`, or tests/services/install_llama.sh")
    with tempfile.TemporaryDirectory(prefix="rb-gguf-") as folder:
        path = Path(folder) / "tiny.gguf"
        subprocess.run([ENGINE_PYTHON, HERE / "tiny_gguf.py", path], check=True, timeout=START_S)
        yield path


@contextmanager
def engine_on(model: Path, answer_tokens: int = ANSWER_TOKENS_MAX) -> Iterator[Engine]:
    """A llama.cpp server with the model, killed at the end when it still runs."""
    words: list[str | Path] = ["--model", model, "--alias", MODEL, "--answer-tokens", str(answer_tokens)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(ENGINE_PYTHON), str(HERE / "llama_engine.py"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait(STOP_S)
            log.seek(0)
            pytest.fail(f"the engine ended with {process.returncode}: {log.read()[-2000:].decode(errors='replace')}")
        said = json.loads(line)
        engine = Engine(process, said["url"], said["build"])
        try:
            yield engine
        finally:
            engine.kill()
