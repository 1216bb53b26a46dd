"""A folder's walls: no path, link, special file or race leads out of it, with openat2 and without."""

from __future__ import annotations

import os
import random
import threading
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.kernel.errors import RoadbedError
from roadbed.sources.errors import SourceUnavailable
from roadbed.tools.files import (
    FileGone,
    FileRoot,
    FileTooLarge,
    Opener,
    PathRefused,
    best_opener,
    checked_path,
    open_beneath,
    open_by_parts,
)

RACE_S = 2.0
SECRET = b"the secret of another folder"

HOSTILE = [
    "/etc/passwd", "//etc/passwd", "..", "../outside/secret.txt", "a/../../outside/secret.txt", "./notes.txt",
    "a/./b", "a//b", "../", "...", "a/...", "..\\outside\\secret.txt", "a\\..\\b", "C:\\windows", "notes.txt\0.png",
    "notes\n.txt", "notes\t.txt", "\x7f", "\x1b[2J", "notes.txt ", "notes.txt.", ".hidden", ".git/config", "a/.ssh/id",
    "\u202egnp.txt", "no\u200btes.txt", "notes\ufeff.txt", "\u2028", "a/" * 40 + "b", "x" * 2000, "~/notes.txt/..",
    "\ud800", "%2e%2e/outside", "..%2foutside%2fsecret.txt", "file:///etc/passwd", "/proc/self/cwd/../x",
    "/dev/stdin", "link.txt", "folder-link/secret.txt", "loop", "loop/loop/x", "absolute-link.txt", "proc-link/environ",
    "pipe", "socket", "hard.txt", "folder", "folder/", "missing.txt", "notes.txt/x", "state/cli.json", "state",
    "notes.key", "up-link/outside/secret.txt", "dangling", "\uff0e\uff0e/outside/secret.txt",
    "\u2025/outside/secret.txt",
    "..\u2215outside\u2215secret.txt", "..\uff0foutside\uff0fsecret.txt", ".\u0307./outside",
    "..\u0000/outside/secret.txt",
    "folder/..", "folder/../../outside/secret.txt", "..;/outside/secret.txt", "notes.txt::$DATA", "NOTES~1.TXT",
    "\udcff", "no\u00adtes.txt", "notes.txt\u0085", "notes\u2060.txt", "\ue000", "/dev/fd/0",
    "/proc/self/cwd/../etc/passwd",
    "proc-link/cwd/etc/passwd", "proc-link/fd/0", "proc-link/task", "magic/etc/passwd", "fd-link",
    "fd-link/secret.txt",
    "folder-link/../notes.txt", "up-link/docs/notes.txt", "x" * 256, "a/" * 2000 + "b", "\u00e9" * 200,
    "folder//deep/Zo\u00eb.txt",
]  # fmt: skip


@pytest.fixture(params=["openat2", "by parts"])
def opener(request: pytest.FixtureRequest) -> Opener:
    if request.param == "openat2" and best_opener() is not open_beneath:
        pytest.skip("this kernel has no openat2")
    return open_beneath if request.param == "openat2" else open_by_parts


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder ``docs`` with honest files and every kind of trap, beside a folder ``outside``."""
    docs, outside = tmp_path / "docs", tmp_path / "outside"
    (docs / "folder" / "deep").mkdir(parents=True)
    (docs / "state").mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_bytes(SECRET)
    (docs / "notes.txt").write_bytes(b"some notes")
    (docs / "notes.key").write_bytes(SECRET)
    (docs / ".hidden").write_bytes(SECRET)
    (docs / "folder" / "deep" / "Zoë.txt").write_bytes(b"below")
    (docs / "state" / "cli.json").write_bytes(SECRET)
    (docs / "link.txt").symlink_to("../outside/secret.txt")
    (docs / "absolute-link.txt").symlink_to(outside / "secret.txt")
    (docs / "folder-link").symlink_to(outside)
    (docs / "up-link").symlink_to("..")
    (docs / "proc-link").symlink_to("/proc/self")
    (docs / "magic").symlink_to("/proc/self/root")
    (docs / "fd-link").symlink_to("/proc/self/fd/0")
    (docs / "loop").symlink_to("loop")
    (docs / "dangling").symlink_to("nowhere")
    os.link(outside / "secret.txt", docs / "hard.txt")
    os.mkfifo(docs / "pipe")
    return docs


def root_of(docs: Path, opener: Opener) -> FileRoot:
    return FileRoot("handbook", docs, exclude=["*.key"], passed_over=[docs / "state"], opener=opener)


def read(root: FileRoot, path: str) -> bytes:
    return root.read(path, 0, 1000, 1000).data


def test_honest_files_are_listed_and_read(place: Path, opener: Opener) -> None:
    root = root_of(place, opener)
    assert [(entry.path, entry.is_folder) for entry in root.entries()] == [("folder", True), ("notes.txt", False)]
    assert [entry.path for entry in root.entries("folder/deep")] == ["folder/deep/Zoë.txt"]
    assert read(root, "notes.txt") == b"some notes"
    assert read(root, unicodedata.normalize("NFD", "folder/deep/Zoë.txt")) == b"below"
    part = root.read("notes.txt", 5, 3, 1000)
    assert (part.data, part.offset, part.size_bytes) == (b"not", 5, 10)


@pytest.mark.parametrize("path", HOSTILE)
def test_no_path_leads_out(path: str, place: Path, opener: Opener) -> None:
    root = root_of(place, opener)
    with pytest.raises((PathRefused, FileGone)) as raised:
        read(root, path)
    assert str(place) not in raised.value.message
    assert "outside" not in raised.value.message or "outside" in path
    if "folder" not in path or "-" in path:
        with pytest.raises((PathRefused, FileGone)) as raised:
            root.entries(path)
        assert str(place.parent) not in raised.value.message


def test_a_file_over_the_bound_is_refused_and_a_folder_that_went_is_named(place: Path, opener: Opener) -> None:
    root = root_of(place, opener)
    with pytest.raises(FileTooLarge):
        root.read("notes.txt", 0, 5, 9)
    assert root.read("notes.txt", 0, 5, 10).data == b"some "
    place.rename(place.parent / "moved")
    with pytest.raises(SourceUnavailable) as raised:
        read(root, "notes.txt")
    assert str(place) not in raised.value.message
    place.mkdir()
    (place / "notes.txt").write_bytes(b"of the new folder")
    assert read(root, "notes.txt") == b"of the new folder"


def test_descriptors_are_given_back(place: Path, opener: Opener) -> None:
    root = root_of(place, opener)
    for path in ("notes.txt", "folder/deep/Zoë.txt", "link.txt", "missing", "pipe"):
        for _ in range(20):
            with pytest.raises(RoadbedError) if path in ("link.txt", "missing", "pipe") else _nothing():
                read(root, path)
    root.entries("folder")
    del root
    targets = [target for entry in Path("/proc/self/fd").iterdir() if (target := _target(entry))]
    assert not [target for target in targets if target.startswith(str(place))]


def _target(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except OSError:  # the descriptor of the listing itself
        return ""


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def test_a_thread_that_swaps_links_gets_nothing_out(place: Path, opener: Opener) -> None:
    """Files and folders turn into links to the outside and back, as fast as one thread can, while another reads."""
    inner = place / "swap"
    inner.mkdir()
    (inner / "secret.txt").write_bytes(b"inside")
    (place / "file.txt").write_bytes(b"inside")
    stop = threading.Event()

    def swap() -> None:
        chance = random.Random(7)
        link, aside = place / "tmp-link", place / "tmp-aside"
        while not stop.is_set():
            name = chance.choice(["swap", "file.txt"])
            target = place.parent / "outside" / ("secret.txt" if name == "file.txt" else "")
            link.symlink_to(target)
            os.rename(place / name, aside)
            os.rename(link, place / name)
            os.unlink(place / name)
            os.rename(aside, place / name)

    root = FileRoot("handbook", place, opener=opener)
    thread = threading.Thread(target=swap)
    thread.start()
    seen = {"inside": 0, "refused": 0}
    until = time.monotonic() + RACE_S
    try:
        while time.monotonic() < until:
            for path in ("swap/secret.txt", "file.txt"):
                try:
                    data = read(root, path)
                except (PathRefused, FileGone, SourceUnavailable):
                    seen["refused"] += 1
                else:
                    assert data == b"inside"
                    seen["inside"] += 1
            try:
                names = {entry.path for entry in root.entries("swap")}
            except (PathRefused, FileGone, SourceUnavailable):
                seen["refused"] += 1
            else:
                assert names <= {"swap/secret.txt"}
    finally:
        stop.set()
        thread.join()
    assert seen["inside"] > 50
    assert seen["refused"] > 50


def test_a_file_that_grows_shrinks_or_goes_while_it_is_read(place: Path, opener: Opener) -> None:
    path = place / "moving.txt"
    path.write_bytes(b"x" * 1000)
    stop = threading.Event()

    def change() -> None:
        chance = random.Random(3)
        while not stop.is_set():
            match chance.randrange(3):
                case 0:
                    path.write_bytes(b"x" * chance.randrange(1, 4000))
                case 1:
                    path.unlink(missing_ok=True)
                case _:
                    path.write_bytes(b"x" * 500)

    thread = threading.Thread(target=change)
    thread.start()
    root = FileRoot("handbook", place, opener=opener)
    ends = set()
    try:
        until = time.monotonic() + RACE_S / 4
        while time.monotonic() < until:
            try:
                data = root.read("moving.txt", 0, 800, 2000).data
            except (FileGone, FileTooLarge, PathRefused) as error:
                ends.add(type(error).__name__)
            else:
                ends.add("read")
                assert len(data) <= 800
                assert set(data) <= {ord("x")}
    finally:
        stop.set()
        thread.join()
    assert "read" in ends


@given(st.text(max_size=40))
def test_a_checked_path_stays_below(text: str) -> None:
    try:
        path = checked_path(text)
    except PathRefused:
        return
    joined = os.path.normpath(os.path.join("/root-of-source", path))
    assert joined == "/root-of-source" if path == "" else joined == f"/root-of-source/{path}"
    assert checked_path(path) == path
