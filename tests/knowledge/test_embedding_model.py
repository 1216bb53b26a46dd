"""The model folder: found, checked, refused when it is missing or changed."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from roadbed.knowledge.embedding_graph import read_safetensors
from roadbed.knowledge.embedding_model import (
    DIMENSIONS,
    MANIFEST_FILE,
    MODEL_FILE,
    QUANTISED_SHA256,
    TOKENIZER_FILE,
    ModelDamaged,
    ModelMissing,
    locate,
    main,
    prepare,
    read_manifest,
    verify,
)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the installed model that a test may damage."""
    return Path(shutil.copytree(locate(), tmp_path / "model"))


def test_installed_model_is_whole() -> None:
    manifest = verify(locate())
    assert manifest.dimensions == DIMENSIONS
    assert manifest.model_sha256 == QUANTISED_SHA256
    assert manifest.digest.startswith("minilm-l6-int8@sha256:")


def test_missing_model_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADBED_MODEL_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ModelMissing) as caught:
        locate()
    assert caught.value.code == "knowledge.model_missing"
    assert "make setup" in caught.value.hint
    assert "nowhere" in caught.value.message


@pytest.mark.parametrize("name", [MODEL_FILE, TOKENIZER_FILE])
def test_changed_file_is_refused(copied: Path, name: str) -> None:
    with (copied / name).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ModelDamaged):
        verify(copied)


def test_missing_file_and_bad_manifest_are_refused(copied: Path) -> None:
    (copied / MODEL_FILE).unlink()
    with pytest.raises(ModelDamaged):
        verify(copied)
    (copied / MANIFEST_FILE).write_text("{}")
    with pytest.raises(ModelDamaged):
        read_manifest(copied)
    (copied / MANIFEST_FILE).unlink()
    with pytest.raises(ModelMissing):
        read_manifest(copied)


def test_whole_target_is_left_alone_and_wrong_source_changes_nothing(copied: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.safetensors").write_bytes(b"not the weights")
    assert prepare(source, copied) == read_manifest(copied)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ModelDamaged):
        prepare(source, tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_command_line_reports_a_missing_wheel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--wheel-dir", str(tmp_path), "--target", str(tmp_path / "target")]) == 1
    assert "knowledge.model_missing" in capsys.readouterr().err


def test_safetensors_are_read_by_name(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype="<f4").reshape(2, 3)
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            "places": {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]},
        }
    ).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + numbers.tobytes() + struct.pack("<q", 7))
    tensors = read_safetensors(path)
    assert np.array_equal(tensors["weight"], numbers)
    assert tensors["places"].tolist() == [7]
    path.write_bytes(struct.pack("<Q", 1 << 40))
    with pytest.raises(ValueError, match="header"):
        read_safetensors(path)
