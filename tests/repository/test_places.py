"""The bytes of a value are one range of one file, for programs that know nothing of us."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import versioned_zarr as vz
from versioned_zarr.blocks.protocol import LocatedBlocks

VALUES = {"empty": b"", "small": b"12345", "leaf": os.urandom(1 << 20), "long": os.urandom(5 << 20)}


def bytes_at(snapshot: vz.Snapshot, key: str) -> bytes:
    place = snapshot.place(key)
    assert place is not None
    with open(unquote(urlsplit(place.url).path), "rb") as file:
        return os.pread(file.fileno(), place.size, place.offset)


def test_a_place_holds_the_bytes_of_a_value(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r é.vz")
    with repository.session(message="values") as session:
        for key, value in VALUES.items():
            session.write(key, value)
    with repository.session(message="a small one") as session:
        session.write("other", b"67")
    expected = {**VALUES, "other": b"67"}
    for _ in range(2):
        snapshot = repository.checkout()
        assert {key: bytes_at(snapshot, key) for key in expected} == expected
        repository.repack()


def test_a_value_whose_leaves_lie_apart_has_no_place() -> None:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    leaves = [os.urandom(1 << 20) for _ in range(5)]  # one of them saves less than a fourth
    for part in (leaves[1], b"".join(leaves)):
        with repository.session(message="a value") as session:
            session.write("v", part)
    assert repository.checkout().place("v") is not None
    blocks = repository._stores.blocks
    cids = [blocks.hash.raw(leaf) for leaf in leaves]
    assert isinstance(blocks, LocatedBlocks)
    assert blocks.locate(cids, [1 << 20] * 5) is not None
    assert blocks.locate(cids[::-1], [1 << 20] * 5) is None


def test_no_value_has_no_place() -> None:
    with pytest.raises(vz.KeyNotFoundError, match="nope"):
        vz.create(f"memory://{uuid.uuid4()}").checkout().place("nope")
