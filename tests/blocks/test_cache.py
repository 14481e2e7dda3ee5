"""The cache of blocks: what it keeps, and what becomes of it when the machine goes down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.blocks.cache import block_cache as cache_module
from versioned_zarr.blocks.cache.block_cache import BlockCache
from versioned_zarr.ipld.cid import hash_function

HASH = hash_function("sha2-256")
OLD, NEW = b"read long ago", b"read just now"


def open_cache(folder: Path) -> BlockCache:
    return BlockCache(LocalStorage(folder), HASH)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an old pack and a new one."""
    monkeypatch.setattr(cache_module, "_BOOT_ID", tmp_path / "boot_id")
    boot(tmp_path, b"first")
    cache = open_cache(tmp_path / "cache")
    for data in (OLD, NEW):
        cache.put([(HASH.raw(data), data)], HASH.raw(data))
        (pack,) = [it for it in (tmp_path / "cache/packs").iterdir() if data in it.read_bytes()]
        if data == OLD:
            os.utime(pack, (0, 0))
    return tmp_path


def boot(folder: Path, name: bytes) -> None:
    (folder / "boot_id").write_bytes(name)


def held(folder: Path) -> list[bytes]:
    cache = open_cache(folder / "cache")
    return [data for data in (OLD, NEW) if cache.get(HASH.raw(data)) == data]


def test_a_cache_is_there_for_the_next_process(folder: Path) -> None:
    assert held(folder) == [OLD, NEW]


def test_what_was_written_last_goes_when_the_machine_was_down(folder: Path) -> None:
    boot(folder, b"second")
    assert held(folder) == [OLD]
    assert held(folder) == [OLD]


def test_a_torn_pack_is_never_read(folder: Path) -> None:
    (pack,) = [it for it in (folder / "cache/packs").iterdir() if NEW in it.read_bytes()]
    pack.write_bytes(pack.read_bytes().replace(NEW, bytes(len(NEW))))
    boot(folder, b"second")
    assert open_cache(folder / "cache").get(HASH.raw(NEW)) is None


def test_a_cache_works_where_nothing_tells_of_boots(folder: Path) -> None:
    (folder / "boot_id").unlink()
    assert held(folder) == [OLD, NEW]
