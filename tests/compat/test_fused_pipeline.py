"""zarr's fused pipeline, which calls a store in one thread where the store lets it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.compat.places import Place, in_folder, in_memory
from tests.servers.daemon import Daemon
from tests.servers.lakefs import LakefsServer
from versioned_zarr.interfaces.zarr.zarr_store import VersionedStore

pytestmark = pytest.mark.compat

PIPELINE = "zarr.core.codec_pipeline.FusedCodecPipeline"
DATA = np.random.default_rng(1).random((60, 40), dtype="f4")


@pytest.fixture
def fused() -> Iterator[None]:
    if not hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
        pytest.skip("this zarr has no fused pipeline")
    with zarr.config.set({"codec_pipeline.path": PIPELINE, "codec_pipeline.max_workers": 1}):
        yield


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which methods of stores are called for chunks, in order."""
    called: list[str] = []

    def watch(name: str) -> None:
        method = getattr(VersionedStore, name)

        def watched(self: VersionedStore, key: str, *arguments: Any, **options: Any) -> Any:
            if "/c/" in key:
                called.append(name)
            return method(self, key, *arguments, **options)

        monkeypatch.setattr(VersionedStore, name, watched)

    for name in ("get", "set", "get_sync", "set_sync"):
        watch(name)
    return called


def write(repository: vz.Repository) -> str:
    """Arrays of several kinds; the CID of their snapshot."""
    with repository.session("main", message="arrays") as session:
        new = zarr.create_group(session.store, path="new")
        old = zarr.create_group(session.store, path="old", zarr_format=2)
        for group, name, options in (
            (new, "plain", {"compressors": None}),
            (new, "compressed", {}),
            (new, "sharded", {"shards": (20, 20)}),
            (old, "compressed", {}),
        ):
            array = group.create_array(
                name, shape=DATA.shape, chunks=(10, 10), dtype=DATA.dtype, fill_value=0, **options
            )
            array[:] = DATA
            array[5:15, 3] = 7  # parts of chunks
            array[20:30, :] = 0  # chunks that are removed
    return repository.checkout().cid


@pytest.mark.parametrize("place", [in_memory, in_folder])
@pytest.mark.usefixtures("fused")
def test_it_writes_and_reads_the_same_bytes_as_the_default_one(
    place: Place, tmp_path: Path, calls: list[str]
) -> None:
    repository = vz.create(place(tmp_path))
    cid = write(repository)
    assert set(calls) == {"get_sync", "set_sync"}
    store = repository.checkout().store
    expected = DATA.copy()
    expected[5:15, 3], expected[20:30, :] = 7, 0
    for path in ("new/plain", "new/compressed", "new/sharded", "old/compressed"):
        assert (zarr.open_array(store, path=path, mode="r")[:] == expected).all()
    assert set(calls) == {"get_sync", "set_sync"}
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        assert write(vz.create(place(tmp_path))) == cid


@pytest.mark.usefixtures("fused")
def test_what_waits_for_a_node_is_read_several_at_a_time(
    node: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    repository = vz.create(f"{node.url}/{uuid.uuid4()}")
    cid = write(repository)
    assert set(calls) == {"get_sync", "set_sync"}  # into a local pack
    for snapshot in (repository.checkout(), vz.open_snapshot(cid, gateways=[node.gateway])):
        calls.clear()
        array = zarr.open_array(snapshot.store, path="new/plain", mode="r")
        assert (array[30:] == DATA[30:]).all()
        assert set(calls) == {"get"}


@pytest.mark.usefixtures("fused")
def test_what_waits_for_lakefs_is_written_several_at_a_time(
    lakefs: LakefsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    under_way, most, guard = 0, 0, threading.Lock()
    send = vz.Session.write

    def counted(self: vz.Session, key: str, value: Any) -> None:
        nonlocal under_way, most
        with guard:
            under_way += 1
            most = max(most, under_way)
        send(self, key, value)
        with guard:
            under_way -= 1

    monkeypatch.setattr(vz.Session, "write", counted)
    repository = lakefs.create()
    assert write(repository) == write(vz.create(in_memory(tmp_path)))
    assert most > 2
    assert "set" in calls
