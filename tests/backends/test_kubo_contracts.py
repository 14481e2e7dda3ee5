"""A repository on a real Kubo node keeps every contract that others keep."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.backends.stored import stored_from_the_start
from tests.servers.daemon import Daemon
from versioned_zarr.backends.kubo import KuboBlocks, KuboClient, MfsRefs, mfs_refs
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.registry import backend_at
from versioned_zarr.blocks.cache.block_cache import BlockCache
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.engine.backend import Backend
from versioned_zarr.history.refs import RefStore
from versioned_zarr.ipld.cid import hash_function
from versioned_zarr.repository.repository import Repository
from versioned_zarr.testing import (
    BackendContract,
    BlockStoreContract,
    MaintenanceContract,
    RefStoreContract,
    RepositoryContract,
    SessionStoreContract,
)

pytestmark = pytest.mark.compat


@pytest.fixture(params=["sha2-256", "blake3"])
def blocks(node: Daemon, tmp_path: Path, request: pytest.FixtureRequest) -> BlockStore:
    storage = LocalStorage(tmp_path / "cache")
    return KuboBlocks(KuboClient(node.rpc), BlockCache(storage, hash_function(request.param)))


class TestKuboBlocks(BlockStoreContract):
    pass


class PartialBlocks(KuboBlocks):
    """Those of a partial copy, whose refs name what need not be there."""

    @property
    def is_partial(self) -> bool:
        return True


class TestKuboRefs(RefStoreContract):
    @pytest.fixture
    def uncached(self, node: Daemon, tmp_path: Path) -> KuboBlocks:
        cache = BlockCache(LocalStorage(tmp_path), hash_function("sha2-256"), limit_bytes=0)
        return PartialBlocks(KuboClient(node.rpc), cache)

    @pytest.fixture
    def refs(
        self, uncached: KuboBlocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[RefStore]:
        monkeypatch.setattr(mfs_refs, "KEPT_FOR", timedelta(0))
        root = f"/versioned-zarr/{uuid.uuid4()}"
        storage = LocalStorage(tmp_path / "locks")
        yield MfsRefs(uncached.client, root, uncached, storage)
        # These refs name what is no commit; the node could not collect garbage beside them.
        uncached.client.remove(root)


class TestKuboRepository(RepositoryContract, SessionStoreContract, MaintenanceContract):
    keeps_packs = False

    @pytest.fixture
    def url(self, node: Daemon) -> str:
        return f"{node.url}/{uuid.uuid4()}"

    @pytest.fixture
    def repository(self, url: str) -> Repository:
        return vz.create(url)

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], Repository]:
        def reopen() -> Repository:
            gc.collect()
            return vz.open(url, verify="always")

        return reopen


class TestKuboStoredSessions(SessionStoreContract):
    url, repository, reopen = (
        TestKuboRepository.url,
        TestKuboRepository.repository,
        TestKuboRepository.reopen,
    )

    @pytest.fixture(autouse=True)
    def stored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stored_from_the_start(monkeypatch)


class TestKuboBackend(BackendContract):
    option = ("cache_bytes", 1 << 20)

    @pytest.fixture
    def place(self, node: Daemon) -> Callable[[], Backend]:
        url = f"{node.url}/{uuid.uuid4()}"
        return lambda: backend_at(url, {})[0]
