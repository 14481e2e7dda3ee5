"""Memory and a local folder keep every contract."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.memory import MemoryStorage
from versioned_zarr.backends.registry import backend_at
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.blocks.remote.lazy_origin import BlockOrigin
from versioned_zarr.blocks.remote.lazy_store import LazyStore
from versioned_zarr.engine.backend import Backend
from versioned_zarr.history.log_refs import LogRefs
from versioned_zarr.history.refs import RefStore
from versioned_zarr.ipld.cid import hash_function
from versioned_zarr.repository.repository import Repository
from versioned_zarr.storage.protocol import Storage
from versioned_zarr.testing import (
    BackendContract,
    BlockReadContract,
    BlockStoreContract,
    MaintenanceContract,
    RefStoreContract,
    RepositoryContract,
    SessionStoreContract,
    StorageContract,
)
from versioned_zarr.testing.block_store_contract import sample_blocks


class OnMemory:
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage("contract")

    @pytest.fixture
    def url(self) -> str:
        return f"memory://{uuid.uuid4()}"


class OnMemoryWithoutViews(OnMemory):
    """As a place in a network is: what is asked for is read, and all else is not."""

    @pytest.fixture(autouse=True)
    def without_views(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MemoryStorage, "view", lambda *_: None)


class OnFolder:
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(tmp_path / "storage")

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "repository")


class OnPacks:
    @pytest.fixture(params=["sha2-256", "blake3"])
    def blocks(self, storage: Storage, request: pytest.FixtureRequest) -> BlockStore:
        return PackStore(storage, hash_function(request.param), verify=False)

    @pytest.fixture
    def refs(self, storage: Storage) -> RefStore:
        return LogRefs(storage)

    @pytest.fixture
    def repository(self, url: str) -> Repository:
        return vz.create(url)

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], Repository]:
        def reopen() -> Repository:
            gc.collect()
            return vz.open(url, verify="always")

        return reopen

    @pytest.fixture
    def place(self, url: str) -> Callable[[], Backend]:
        return lambda: backend_at(url, {})[0]


class TestMemoryStorage(OnMemory, StorageContract):
    pass


class TestFolderStorage(OnFolder, StorageContract):
    pass


class TestMemoryBlocks(OnMemory, OnPacks, BlockStoreContract):
    pass


class TestFolderBlocks(OnFolder, OnPacks, BlockStoreContract):
    pass


class TestMemoryRefs(OnMemory, OnPacks, RefStoreContract):
    pass


class TestFolderRefs(OnFolder, OnPacks, RefStoreContract):
    pass


class TestMemoryRepository(
    OnMemory, OnPacks, RepositoryContract, SessionStoreContract, MaintenanceContract
):
    pass


class TestFolderRepository(
    OnFolder, OnPacks, RepositoryContract, SessionStoreContract, MaintenanceContract
):
    pass


class TestMemoryBackend(OnMemory, OnPacks, BackendContract):
    pass


class TestFolderBackend(OnFolder, OnPacks, BackendContract):
    pass


class TestBlocksWithoutViews(OnMemoryWithoutViews, OnPacks, BlockStoreContract):
    pass


class OnPartialCopy(OnMemory):
    """Blocks in packs, completed from other packs, which are empty at first."""

    @pytest.fixture
    def origin(self) -> BlockStore:
        return PackStore(MemoryStorage("origin"), hash_function("sha2-256"), verify=False)

    @pytest.fixture
    def blocks(self, storage: Storage, origin: BlockStore) -> BlockStore:
        rest = BlockOrigin("memory://origin", lambda: origin)
        return LazyStore(storage, origin.hash, verify=False, origin=rest)


class TestBlocksOfAPartialCopy(OnPartialCopy, BlockStoreContract):
    pass


class TestBlocksThatAPartialCopyLacks(OnPartialCopy, BlockReadContract):
    has_them_near = False

    @pytest.fixture
    def stored(self, blocks: BlockStore, origin: BlockStore) -> BlockStore:
        samples = sample_blocks(origin.hash)
        origin.put(samples, samples[-1][0])
        return blocks


class TestRefsWithoutViews(OnMemoryWithoutViews, OnPacks, RefStoreContract):
    pass


class TestRepositoryWithoutViews(
    OnMemoryWithoutViews, OnPacks, RepositoryContract, SessionStoreContract, MaintenanceContract
):
    pass
