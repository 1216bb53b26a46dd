"""Which Python `scripts/make-venv.sh` takes, with interpreters of the test that answer what it asks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "make-venv.sh"
FAST, SLOW, OLD, NO_VENV, ELSEWHERE = "3.11.2 yes", "3.11.7 no", "3.9.1 yes", "3.12.1 yes no-venv", "3.11.7 unknown"


def make_python(path: Path, kind: str) -> None:
    version, optimized, *without = kind.split()
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"""#!/bin/sh
case "$*" in
    *CONFIG_ARGS*) echo {version} {optimized} ;;
    *"(3, 11)"*) exit {int(version.startswith("3.9"))} ;;
    *ensurepip*) exit {len(without)} ;;
    *--version*) echo Python {version} ;;
    *"-m venv"*) mkdir "$3" && echo {path} > "$3/made-by" ;;
    *) exit 2 ;;
esac
"""
    )
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("python3", "system", "asked", "taken", "said"),
    [
        (FAST, FAST, "", "python3", "making the virtual environment in venv\n"),
        (ELSEWHERE, FAST, "", "python3", "making the virtual environment in venv\n"),
        (SLOW, FAST, "", "system", "with SYSTEM (3.11.2): python3 is a build without optimizations, up to 1.8 times"),
        (SLOW, FAST, "python3", "python3", "making the virtual environment in venv\n"),
        (SLOW, SLOW, "", "python3", "making the virtual environment in venv\n"),
        (SLOW, ELSEWHERE, "", "python3", "making the virtual environment in venv\n"),
        (SLOW, NO_VENV, "", "python3", "making the virtual environment in venv\n"),
        (SLOW, OLD, "", "python3", "making the virtual environment in venv\n"),
        (SLOW, None, "", "python3", "making the virtual environment in venv\n"),
        (OLD, FAST, "", "system", "with SYSTEM (3.11.2): python3 is 3.9.1, and Roadbed needs 3.11 or newer"),
        (
            OLD,
            OLD,
            "",
            None,
            "Roadbed needs Python 3.11 or newer; python3 is Python 3.9.1. Say which with: make PYTHON=",
        ),
        (NO_VENV, FAST, "", None, "Python's venv module is missing."),
        (FAST, FAST, "absent", None, "Roadbed needs Python 3.11 or newer; absent is"),
    ],
)
def test_the_best_python_is_taken_unless_one_is_named(
    tmp_path: Path, python3: str, system: str | None, asked: str, taken: str | None, said: str
) -> None:
    paths = {"python3": tmp_path / "bin" / "python3", "system": tmp_path / "system" / "python3"}
    make_python(paths["python3"], python3)
    if system is not None:
        make_python(paths["system"], system)
    done = subprocess.run(
        ["sh", str(SCRIPT), "venv"],
        cwd=tmp_path,
        env={
            "PATH": f"{tmp_path / 'bin'}:{os.defpath}",
            "PYTHON": asked,
            "SYSTEM_PYTHON": str(paths["system"]),
            "GOALS": "setup",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.replace("SYSTEM", str(paths["system"])) in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.returncode == (taken is None)
    made = tmp_path / "venv" / "made-by"
    assert (made.read_text().strip() if made.exists() else None) == (str(paths[taken]) if taken else None)
