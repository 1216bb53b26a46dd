"""Files that change between listing and reading: what is put in their place leads nowhere, and nothing hangs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from roadbed.knowledge.connectors.connector import Connector, DocumentGone, ReadRefused
from roadbed.knowledge.connectors.files import FilesConnector

BYTES_MAX = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outside.txt").write_text("Outside.")
    (tmp_path / "docs/deep").mkdir(parents=True)
    (tmp_path / "docs/deep/a.txt").write_text("Inside.")
    return tmp_path / "docs"


@pytest.fixture
def connector(folder: Path) -> Connector:
    return FilesConnector(folder, bytes_max=BYTES_MAX)


async def test_a_file_is_read_and_one_that_just_changed_is_listed_anew(connector: Connector) -> None:
    content = await connector.read("deep/a.txt")
    assert (content.name, content.data) == ("deep/a.txt", b"Inside.")
    assert (content.version or "").endswith("?")


async def test_a_file_that_is_deleted_before_it_is_read_is_gone(connector: Connector, folder: Path) -> None:
    (folder / "deep/a.txt").unlink()
    with pytest.raises(DocumentGone):
        await connector.read("deep/a.txt")
    (folder / "deep").rmdir()
    with pytest.raises(DocumentGone):
        await connector.read("deep/a.txt")


def to_link(folder: Path) -> None:
    (folder / "deep/a.txt").unlink()
    (folder / "deep/a.txt").symlink_to(folder.parent / "outside.txt")


def to_pipe(folder: Path) -> None:
    (folder / "deep/a.txt").unlink()
    os.mkfifo(folder / "deep/a.txt")


def to_folder(folder: Path) -> None:
    (folder / "deep/a.txt").unlink()
    (folder / "deep/a.txt").mkdir()


def to_large(folder: Path) -> None:
    (folder / "deep/a.txt").write_bytes(b"x" * (BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [(to_link, "unsafe"), (to_pipe, "unsupported"), (to_folder, "unsupported"), (to_large, "too_large")],
)
async def test_what_stands_in_a_file_s_place_is_refused(
    connector: Connector, folder: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(folder)
    with pytest.raises(ReadRefused) as refused:
        await connector.read("deep/a.txt")
    assert refused.value.reason == reason


async def test_a_folder_that_becomes_a_link_is_not_followed(connector: Connector, folder: Path) -> None:
    (folder.parent / "other").mkdir()
    (folder.parent / "other/a.txt").write_text("Outside.")
    (folder / "deep/a.txt").unlink()
    (folder / "deep").rmdir()
    (folder / "deep").symlink_to(folder.parent / "other")
    with pytest.raises((DocumentGone, ReadRefused)):
        await connector.read("deep/a.txt")


@pytest.mark.parametrize("key", ["../outside.txt", "deep/../../outside.txt", "/etc/hostname", "deep//a.txt", "."])
async def test_no_key_leads_out_of_the_folder(connector: Connector, key: str) -> None:
    with pytest.raises(ReadRefused, match="lead out"):
        await connector.read(key)
