"""``roadbed data synth`` over a real database file, DuckDB's files and a folder of documents."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import pytest

from roadbed.cli.main import EXIT_CONFIG, EXIT_OK, main
from roadbed.guard.gate import Guard

MANIFEST = """\
name: office
sources:
  crm: {type: sqlite, path: crm.sqlite}
  lake: {type: duckdb, files: {people: people.csv}}
  notes: {type: files, path: notes}
  inbox: {type: uploads}
"""
TOWNS = ("Oslo", "Bergen", "Tromsø")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "w"
    (folder / "notes").mkdir(parents=True)
    (folder / "roadbed.yaml").write_text(MANIFEST)
    people = [(n * 3, f"person{n}@kunde.no", f"+47 22 33 {n:02d} {n:02d}", TOWNS[n % 3], n * 10.5) for n in range(60)]
    with sqlite3.connect(folder / "crm.sqlite") as database:
        database.execute("CREATE TABLE people (id integer PRIMARY KEY, mail text, phone text, town text, sum real)")
        database.executemany("INSERT INTO people VALUES (?, ?, ?, ?, ?)", people)
        database.execute("CREATE TABLE orders (id integer PRIMARY KEY, people_id integer)")
        database.executemany("INSERT INTO orders VALUES (?, ?)", [(n, (n % 60) * 3) for n in range(1, 100)])
    with (folder / "people.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "mail"), *((row[0], row[1]) for row in people)])
    text = "# Ann\n\nWrite to person1@kunde.no, then to person1@kunde.no. Card 4111 1111 1111 1111. Case 48213.\n"
    (folder / "notes" / "ann person1@kunde.no.md").write_text(text)
    return folder


def synth(workspace: Path, source: str, *more: str) -> Path:
    out = workspace / f"out-{source}{len(list(workspace.glob('out-*')))}"
    words = ["data", "synth", source, "--workspace", str(workspace), "--out", str(out), "--json", *more]
    assert main(words) == EXIT_OK
    return out


def test_a_database(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = synth(workspace, "crm", "--rows", "40", "--seed", "3")
    assert json.loads(capsys.readouterr().out)["made"] == {"people.csv": 40, "orders.csv": 40}
    assert set(json.loads((out / "schema.json").read_text())) == {"people", "orders"}
    people = list(csv.DictReader((out / "people.csv").read_text().splitlines()))
    orders = list(csv.DictReader((out / "orders.csv").read_text().splitlines()))
    assert {row["people_id"] for row in orders} <= {row["id"] for row in people}
    assert all(row["mail"].endswith("@example.com") for row in people)
    everything = "".join(path.read_text() for path in out.iterdir())
    assert not [town for town in TOWNS if town in everything]
    assert "kunde.no" not in everything
    assert "+47" not in everything
    again = synth(workspace, "crm", "--rows", "40", "--seed", "3")
    assert (again / "people.csv").read_text() == (out / "people.csv").read_text()


def test_files_of_rows_and_documents(workspace: Path) -> None:
    out = synth(workspace, "lake")
    assert "kunde.no" not in (out / "people.csv").read_text()
    notes = synth(workspace, "notes")
    (document,) = notes.iterdir()
    text = document.read_text()
    assert document.name == "document-00001.md"
    assert "4111 1111 1111 1111" not in text
    assert "48213" not in text
    assert "kunde.no" not in text
    assert text.startswith("# Ann\n\nWrite to ")
    mails = [word.strip(",.") for word in text.split() if "@" in word]
    assert len(mails) == 2
    assert len(set(mails)) == 1, "the same person throughout"
    real = Guard.open().scan((workspace / "notes" / "ann person1@kunde.no.md").read_text())
    assert [found.type for found in Guard.open().scan(text)] == [found.type for found in real]


def test_what_cannot_be_made_is_said(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["nothing"], ["inbox"], ["crm", "--rows", "-1"], ["crm", "--out", str(workspace)]):
        assert main(["data", "synth", *words, "--workspace", str(workspace)]) == EXIT_CONFIG
        assert capsys.readouterr().err.startswith("roadbed: ")
