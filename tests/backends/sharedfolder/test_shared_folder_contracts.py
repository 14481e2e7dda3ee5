"""A repository in a shared folder keeps every contract that others keep, with and without links."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import versioned_zarr as vz
from tests.backends.stored import stored_from_the_start
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.objectstore.commit_check import CommitCheck
from versioned_zarr.backends.objectstore.condemned_packs import CondemnedPacks
from versioned_zarr.backends.objectstore.object_blocks import ObjectBlocks
from versioned_zarr.backends.objectstore.pack_catalogue import PackCatalogue
from versioned_zarr.backends.objectstore.record_log import RecordLog
from versioned_zarr.backends.objectstore.record_refs import RecordRefs
from versioned_zarr.backends.registry import backend_at
from versioned_zarr.backends.sharedfolder import folder_calls
from versioned_zarr.backends.sharedfolder.shared_folder_storage import SharedFolderStorage
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


class WithLinks:
    pass


class WithoutLinks:
    @pytest.fixture(autouse=True)
    def _refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def link(source: str, target: str) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), source)

        monkeypatch.setattr(folder_calls, "link", link)


class OnFolder:
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "shared.vz")

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"shared": True}

    @pytest.fixture
    def place(self, url: str) -> Callable[[], Backend]:
        return lambda: backend_at(url, {"shared": True})[0]

    @pytest.fixture
    def repository(self, url: str) -> Repository:
        return vz.create(url, shared=True)

    @pytest.fixture
    def reopen(self, url: str) -> Callable[[], Repository]:
        def reopen() -> Repository:
            gc.collect()
            return vz.open(url, verify="always")

        return reopen

    @pytest.fixture
    def files(self, tmp_path: Path) -> SharedFolderStorage:
        return SharedFolderStorage(tmp_path / "files", "file:///files")

    @pytest.fixture(params=["sha2-256", "blake3"])
    def blocks(
        self, files: SharedFolderStorage, tmp_path: Path, request: pytest.FixtureRequest
    ) -> BlockStore:
        function = hash_function(request.param)
        cache = BlockCache(LocalStorage(tmp_path / "cache"), function, limit_bytes=0)
        return ObjectBlocks(PackCatalogue(files, function.code), cache, CondemnedPacks(files))

    @pytest.fixture
    def refs(self, files: SharedFolderStorage, tmp_path: Path) -> RefStore:
        log, locks = RecordLog(files, lambda said: None), LocalStorage(tmp_path / "locks")
        check: Any = mock.create_autospec(CommitCheck, instance=True)
        return RecordRefs(files, log, locks, dict, check, lambda: False)


class Repositories(RepositoryContract, SessionStoreContract, MaintenanceContract):
    fsck_reads_packs = False


class TestBlocks(WithLinks, OnFolder, BlockStoreContract):
    pass


class TestRefs(WithLinks, OnFolder, RefStoreContract):
    pass


class TestRepository(WithLinks, OnFolder, Repositories):
    pass


class StoredSessions(SessionStoreContract):
    """Sessions are in the folder from the start."""

    @pytest.fixture(autouse=True)
    def stored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stored_from_the_start(monkeypatch)


class TestStoredSessions(WithLinks, OnFolder, StoredSessions):
    pass


class TestBackend(WithLinks, OnFolder, BackendContract):
    pass


class TestBlocksWithoutLinks(WithoutLinks, OnFolder, BlockStoreContract):
    pass


class TestRefsWithoutLinks(WithoutLinks, OnFolder, RefStoreContract):
    pass


class TestRepositoryWithoutLinks(WithoutLinks, OnFolder, Repositories):
    pass


class TestStoredSessionsWithoutLinks(WithoutLinks, OnFolder, StoredSessions):
    pass


class TestBackendWithoutLinks(WithoutLinks, OnFolder, BackendContract):
    pass
