"""``roadbed guard scan``: spans without values, by the settings of the workspace, without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roadbed.cli.main import EXIT_CONFIG, EXIT_FAILED, EXIT_NOTHING_FOUND, EXIT_OK, main

TEXT = "é bob@example.com and BSN: 111222333, badge EMP-12345"
MANIFEST = "name: acme\nguard:\n  off: [email]\n  patterns:\n    badge: {pattern: 'EMP-[0-9]{5}'}\n"


def test_spans_are_printed_and_values_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "letter.txt"
    file.write_text(TEXT, encoding="utf-8")
    assert main(["guard", "scan", str(file), "--json", "--workspace", str(tmp_path)]) == EXIT_OK
    printed = capsys.readouterr().out
    assert [(row["rule"], TEXT[row["start"] : row["end"]]) for row in json.loads(printed)["findings"]] == [
        ("email", "bob@example.com"),
        ("nl_bsn", "111222333"),
    ]
    assert "bob" not in printed
    (tmp_path / "roadbed.yaml").write_text(MANIFEST)
    assert main(["guard", "scan", str(file), "--workspace", str(tmp_path)]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "pattern.badge" in printed
    assert "email" not in printed


def test_what_is_no_text_and_what_holds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"\xff\xfe")
    assert main(["guard", "scan", str(file), "--workspace", str(tmp_path)]) == EXIT_FAILED
    assert "no UTF-8" in capsys.readouterr().err
    file.write_text("nothing here")
    assert main(["guard", "scan", str(file), "--workspace", str(tmp_path)]) == EXIT_NOTHING_FOUND


def test_an_unbounded_pattern_is_refused_by_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "roadbed.yaml").write_text(MANIFEST.replace("{5}", "+"))
    assert main(["check", str(tmp_path)]) == EXIT_CONFIG
    assert "guard.patterns.badge: a repeat has no upper bound" in capsys.readouterr().err
