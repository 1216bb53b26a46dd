"""Reads question sets: documents, and questions with what a right answer holds (none where there is no answer)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.parse.document import Block, ParseFailure


@dataclass(frozen=True)
class Document:
    """One document; ``blocks`` is None for plain text. ``group`` keeps what belongs together on one side of a split."""

    id: str
    title: str
    text: str
    blocks: tuple[Block, ...] | None = None
    group: str = ""


@dataclass(frozen=True)
class Question:
    """``wanted``: one list per thing that must occur, each holding its alternatives. Empty: not answerable.

    ``holders`` are the documents that hold the answer.
    """

    id: str
    text: str
    wanted: tuple[tuple[str, ...], ...]
    holders: tuple[str, ...] = ()
    group: str = ""

    @property
    def is_answerable(self) -> bool:
        """Whether the documents hold an answer."""
        return bool(self.wanted)


@dataclass(frozen=True)
class QuestionSet:
    """Documents and the questions about them."""

    name: str
    documents: list[Document]
    questions: list[Question] = field(default_factory=list)

    def sampled(self, count: int) -> QuestionSet:
        """About ``count`` questions, chosen by their ids' hashes: the same ones in every run."""
        if not count or count >= len(self.questions):
            return self
        ranked = sorted(self.questions, key=lambda question: hashlib.sha256(question.id.encode()).digest())
        return QuestionSet(self.name, self.documents, ranked[:count])


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_squad(folder: Path) -> QuestionSet:
    """SQuAD 2.0: a group is an article."""
    documents = [
        Document(row["_id"], row["title"], row["text"], group=row["_id"].partition("#")[0])
        for row in _lines(folder / "documents.jsonl")
    ]
    questions = [
        Question(
            row["id"],
            row["question"],
            (tuple(row["answers"]),) if row["answerable"] else (),
            (row["document_id"],) if row["answerable"] else (),
            row["document_id"].partition("#")[0],
        )
        for row in _lines(folder / "questions.jsonl")
    ]
    return QuestionSet("squad2", documents, questions)


def read_clapnq(folder: Path) -> QuestionSet:
    """ClapNQ: the answers are in people's own words, so any marked sentence of the passage counts."""
    documents = [
        Document(row["_id"], row["title"], row["text"], group=row["_id"]) for row in _lines(folder / "documents.jsonl")
    ]
    questions = [
        Question(
            row["id"],
            row["question"],
            (tuple(row["evidence"]),) if row["answerable"] else (),
            (row["document_id"],) if row["answerable"] else (),
            row["document_id"],
        )
        for row in _lines(folder / "questions.jsonl")
    ]
    return QuestionSet("clapnq", documents, questions)


def read_hotpot(folder: Path) -> QuestionSet:
    """HotpotQA without yes-no questions, whose answers stand nowhere."""
    documents = [
        Document(row["_id"], row["title"], row["text"], group=row["_id"]) for row in _lines(folder / "documents.jsonl")
    ]
    questions = [
        Question(row["id"], row["question"], (tuple(row["answers"]),), tuple(row["document_ids"]), row["id"])
        for row in _lines(folder / "questions.jsonl")
        if not {answer.casefold() for answer in row["answers"]} & {"yes", "no"}
    ]
    return QuestionSet("hotpotqa", documents, questions)


def read_files(folder: Path, name: str, files_max: int = 2_000) -> QuestionSet:
    """A folder of files, parsed; files that cannot be parsed are left out."""
    documents = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[:files_max]:
        relative = str(path.relative_to(folder))
        try:
            parsed = parse_bytes(path.read_bytes(), name=relative)
        except ParseFailure:
            continue
        blocks = tuple(block for block in parsed.blocks if not block.hidden)
        documents.append(Document(relative, parsed.title or path.stem, parsed.text, blocks, relative))
    return QuestionSet(name, documents)


def read_example(folder: Path) -> QuestionSet:
    """The example workspace: its documents and its ``questions.yaml``."""
    files = read_files(folder / "documents", "example")
    declared = yaml.safe_load((folder / "questions.yaml").read_text(encoding="utf-8"))
    questions = []
    for row in declared["answerable"]:
        wanted = tuple(tuple(part.strip() for part in entry.split(" | ")) for entry in row["expect"])
        holders = tuple(name.removeprefix("documents/") for name in row["documents"])
        questions.append(Question(row["id"], row["question"], wanted, holders, row["id"]))
    questions += [Question(row["id"], row["question"], (), (), row["id"]) for row in declared["unanswerable"]]
    return QuestionSet("example", files.documents, questions)


def read_set(name: str, data: Path, example: Path) -> QuestionSet:
    """A set by its name; ``data`` holds a folder per public set."""
    readers = {"squad2": read_squad, "clapnq": read_clapnq, "hotpotqa": read_hotpot}
    return read_example(example) if name == "example" else readers[name](data / name)
