"""Reads a judged collection: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels.tsv`` (the BEIR layout)."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

Judgements = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Judged:
    """Documents and queries by id, and the grades of the judged pairs (query -> document -> grade > 0)."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    judgements: Judgements


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_judgements(path: Path) -> Judgements:
    """The positive grades of a ``qrels.tsv`` with a header line."""
    judgements: Judgements = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if (grade := int(row["score"])) > 0:
                judgements.setdefault(row["query-id"], {})[row["corpus-id"]] = grade
    return judgements


def read_collection(folder: Path, split: str = "") -> Judged:
    """A collection; ``split`` names a subfolder with other queries over the same corpus (``train``)."""
    asked = folder / split if split else folder
    documents = {
        entry["_id"]: f"{entry.get('title', '')}\n{entry['text']}".strip() for entry in _lines(folder / "corpus.jsonl")
    }
    judgements = read_judgements(asked / "qrels.tsv")
    queries = {entry["_id"]: entry["text"] for entry in _lines(asked / "queries.jsonl") if entry["_id"] in judgements}
    return Judged(f"{folder.name}{'/' + split if split else ''}", documents, queries, judgements)
