"""The example workspace is what its generator writes, and its documents, rows and questions agree."""

from __future__ import annotations

import importlib
import io
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import yaml

from roadbed.releases.manifest import Manifest

pytestmark = pytest.mark.services  # builds the example twice: too long for `make test`

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "appraisals"
DOCUMENT_BYTES_MAX = 1_500_000
SEED_BYTES_MAX = 400_000


@pytest.fixture(scope="module")
def tree() -> ModuleType:
    """The generator's `tree` module, loaded from the example's folder."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        return importlib.import_module("generator.tree")
    finally:
        sys.path.remove(str(EXAMPLE))


@pytest.fixture(scope="module")
def files(tree: ModuleType) -> dict[str, bytes]:
    """All generated files by path."""
    built: dict[str, bytes] = tree.build()
    return built


@pytest.fixture(scope="module")
def questions() -> dict[str, list[dict[str, Any]]]:
    """The example's questions."""
    loaded: dict[str, list[dict[str, Any]]] = yaml.safe_load((EXAMPLE / "questions.yaml").read_text(encoding="utf-8"))
    return loaded


def text_of(path: str, data: bytes) -> str:
    """The plain text of a generated document, on one line."""
    if path.endswith(".pdf"):
        import pypdfium2

        with pypdfium2.PdfDocument(data) as pdf:
            text = " ".join(page.get_textpage().get_text_range() for page in pdf)
    elif path.endswith(".docx"):
        import docx

        document = docx.Document(io.BytesIO(data))
        cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
        text = " ".join([paragraph.text for paragraph in document.paragraphs] + cells)
    elif path.endswith(".xlsx"):
        import openpyxl

        book = openpyxl.load_workbook(io.BytesIO(data))
        text = " ".join(str(value) for sheet in book for row in sheet.iter_rows(values_only=True) for value in row)
    else:
        text = re.sub(r"<[^>]+>", " ", re.sub(r"</?(?:strong|em)>", "", data.decode()))
    return " ".join(text.replace("**", "").split())


def row_of(reference: str, seed: str) -> str:
    """The inserted line of a row named `source.table:id`."""
    table, identifier = reference.split(".", 1)[1].split(":")
    start = seed.index(f"INSERT INTO {table} VALUES")
    found = re.search(rf"^\('?{re.escape(identifier)}'?,.*$", seed[start:], re.MULTILINE)
    assert found, reference
    return found[0]


def test_two_builds_give_the_same_bytes(tree: ModuleType, files: dict[str, bytes]) -> None:
    assert tree.build() == files


def test_committed_files_are_up_to_date() -> None:
    command = [sys.executable, str(EXAMPLE / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_names_every_kind_of_difference(tree: ModuleType, files: dict[str, bytes], tmp_path: Path) -> None:
    tree.save(tmp_path, files)
    assert tree.differences(tmp_path, files) == []
    (tmp_path / "documents/faq/clients.md").write_text("changed")
    (tmp_path / "documents/faq/banks.md").unlink()
    (tmp_path / "documents/extra.md").write_text("extra")
    assert tree.differences(tmp_path, files) == [
        "missing: documents/faq/banks.md",
        "not made by the generator: documents/extra.md",
        "different: documents/faq/clients.md",
    ]
    tree.save(tmp_path, files)
    assert tree.differences(tmp_path, files) == []


def test_sizes_and_formats(files: dict[str, bytes]) -> None:
    documents = {path: data for path, data in files.items() if path.startswith("documents/")}
    assert sum(map(len, documents.values())) < DOCUMENT_BYTES_MAX
    assert len(files["data/appraisals.sql"]) < SEED_BYTES_MAX
    assert len(documents) >= 45
    assert {path.rsplit(".", 1)[1] for path in documents} == {"md", "html", "pdf", "docx", "xlsx", "csv"}


def test_every_question_has_its_answer_in_every_document_it_names(
    files: dict[str, bytes], questions: dict[str, list[dict[str, Any]]]
) -> None:
    assert (len(questions["answerable"]), len(questions["unanswerable"])) == (30, 10)
    seed = files["data/appraisals.sql"].decode()
    for item in questions["answerable"]:
        for name in item["documents"]:
            text = text_of(name, files[name]) if name in files else row_of(name, seed)
            for expected in item["expect"]:
                alternatives = expected.split(" | ")
                assert any(part.lower() in text.lower() for part in alternatives), (item["id"], name, expected)


def test_reports_agree_with_the_rows_of_the_database(files: dict[str, bytes]) -> None:
    seed = files["data/appraisals.sql"].decode()
    reports = [path for path in files if path.startswith("documents/reports/")]
    assert len(reports) == 12
    for path in reports:
        text = text_of(path, files[path])
        identifier = re.search(r"A-20\d\d-\d{4}", text)
        assert identifier is not None
        row = row_of(f"appraisals.appraisals:{identifier[0]}", seed)
        value = re.search(r"is NOK ([\d,]+), with a range from NOK ([\d,]+) to NOK ([\d,]+)", text)
        assert value is not None, path
        low_to_high = ",".join(amount.replace(",", "") for amount in value.groups())
        assert low_to_high in row, path
        for sale in re.findall(r"\b8[89]\d{3}\b(?= [A-ZÅØ])", text):
            row_of(f"appraisals.sales:{sale}", seed)


def test_planted_data_has_valid_check_digits(files: dict[str, bytes]) -> None:
    letter = text_of("letter.html", files["documents/letters/complaint-c-2025-014.html"])
    iban = re.search(r"NO\d\d(?: \d{3,4})+", letter)
    assert iban is not None
    plain = iban[0].replace(" ", "")
    assert int(plain[4:] + "2324" + plain[2:4]) % 97 == 1
    number = re.search(r"\b\d{11}\b", letter)
    assert number is not None
    digits = [int(digit) for digit in number[0]]
    assert sum(a * b for a, b in zip(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1), strict=False)) % 11 == 0
    assert sum(a * b for a, b in zip(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1), strict=True)) % 11 == 0
    assert re.search(r'api_key = "bao_map_\w{36}"', files["documents/notes/map-service-setup.md"].decode())


def test_manifest_decodes_and_its_templates_name_real_columns(files: dict[str, bytes]) -> None:
    loaded = yaml.safe_load((EXAMPLE / "roadbed.yaml").read_text(encoding="utf-8"))
    manifest = msgspec.convert(loaded, Manifest)
    tables = loaded["sources"]["appraisals"]["tables"]
    seed = files["data/appraisals.sql"].decode()
    for name, table in tables.items():
        schema = seed[seed.index(f"CREATE TABLE {name}") :].split(");\n")[0]
        for column in re.findall(r"\{(\w+)\}", table["title"] + table["text"]):
            assert re.search(rf"^    {column} ", schema, re.MULTILINE), (name, column)
    assert "profiles" not in {source.split(".")[0] for source in manifest.collections["company"].sources}
    for app in manifest.apps.values():
        assert not app.prompt or (EXAMPLE / app.prompt).is_file()
