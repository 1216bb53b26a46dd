"""Objects: bytes in and out, bounds, keys that would leave the folder, and honest errors."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.kernel.errors import ConfigError, TooLarge
from roadbed.store.errors import InvalidName, ObjectMissing, ObjectsUnavailable
from roadbed.store.objects import ObjectStore


@pytest.fixture(params=["folder", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return ObjectStore.at_folder(tmp_path / "objects") if request.param == "folder" else ObjectStore.in_memory()


async def test_put_get_list_delete(objects: ObjectStore) -> None:
    await objects.put("a/one", b"1")
    await objects.put("a/two", b"22")
    await objects.put("b/three", b"")
    await objects.put("a/one", b"one")
    assert await objects.get("a/one") == b"one"
    assert await objects.get("b/three") == b""
    assert sorted([(found.key, found.size_bytes) async for found in objects.list("a")]) == [("a/one", 3), ("a/two", 2)]
    assert len([found async for found in objects.list()]) == 3
    await objects.delete("a/one")
    await objects.delete("a/one")
    with pytest.raises(ObjectMissing):
        await objects.get("a/one")


async def test_sizes_are_bounded(objects: ObjectStore) -> None:
    await objects.put("big", b"x" * 11)
    with pytest.raises(TooLarge):
        await objects.get("big", bytes_max=10)


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.b", "a\\b", "a b", "ä", "a\0", "k" * 513]
)
async def test_keys_are_checked(objects: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidName):
        await objects.put(key, b"")


@given(st.text(max_size=30))
def test_no_key_leaves_the_folder(key: str) -> None:
    from roadbed.store.objects import _check_key

    try:
        checked = _check_key(key)
    except InvalidName:
        return
    root = Path("/var/objects")
    assert (root / checked).resolve().is_relative_to(root)
    assert ".." not in checked.split("/")


async def test_the_folder_is_private(tmp_path: Path) -> None:
    ObjectStore.at_folder(tmp_path / "objects")
    assert stat.S_IMODE((tmp_path / "objects").stat().st_mode) == 0o700


async def test_a_folder_in_the_way_is_a_typed_error(tmp_path: Path) -> None:
    objects = ObjectStore.at_folder(tmp_path / "objects")
    await objects.put("a/b", b"1")
    with pytest.raises((ObjectsUnavailable, ObjectMissing)):
        await objects.get("a")


@pytest.mark.parametrize("url", ["ftp://x", "s3://", "file:///etc", "s3://key:secret@bucket", "nonsense"])
def test_addresses_are_checked(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ObjectStore.at_url(url)
    assert "secret" not in str(caught.value)
