"""A repository on an object store keeps every contract that others keep."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import versioned_zarr as vz
from tests.backends.stored import stored_from_the_start
from tests.servers.versity import S3Server
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.registry import backend_at
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

obstore = pytest.importorskip("obstore")

from tests.servers.shared_store import SharedStore  # noqa: E402
from versioned_zarr.backends.objectstore.commit_check import CommitCheck  # noqa: E402
from versioned_zarr.backends.objectstore.condemned_packs import CondemnedPacks  # noqa: E402
from versioned_zarr.backends.objectstore.object_blocks import ObjectBlocks  # noqa: E402
from versioned_zarr.backends.objectstore.obstore_storage import ObstoreStorage  # noqa: E402
from versioned_zarr.backends.objectstore.pack_catalogue import PackCatalogue  # noqa: E402
from versioned_zarr.backends.objectstore.record_log import RecordLog  # noqa: E402
from versioned_zarr.backends.objectstore.record_refs import RecordRefs  # noqa: E402
from versioned_zarr.blocks.cache.block_cache import BlockCache  # noqa: E402


class Stored:
    """Sessions are in the store from the start."""

    @pytest.fixture(autouse=True)
    def stored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stored_from_the_start(monkeypatch)


class OnMemory:
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"store": SharedStore()}


class OnS3:
    pytestmark = pytest.mark.compat

    @pytest.fixture
    def options(self, server: S3Server) -> dict[str, Any]:
        return {
            "storage_options": {
                "endpoint": server.endpoint,
                "access_key_id": server.access_key_id,
                "secret_access_key": server.secret_access_key,
                "region": "us-east-1",
                "client_options": {"allow_http": True},
            }
        }


class OnObjects:
    @pytest.fixture
    def url(self) -> str:
        return f"s3://bucket/{uuid.uuid4()}"

    @pytest.fixture
    def place(self, url: str, options: dict[str, Any]) -> Callable[[], Backend]:
        return lambda: backend_at(url, options)[0]

    @pytest.fixture
    def repository(self, url: str, options: dict[str, Any]) -> Repository:
        return vz.create(url, **options)

    @pytest.fixture
    def reopen(self, url: str, options: dict[str, Any]) -> Callable[[], Repository]:
        def reopen() -> Repository:
            gc.collect()
            return vz.open(url, verify="always", **options)

        return reopen

    @pytest.fixture
    def objects(self, place: Callable[[], Backend]) -> ObstoreStorage:
        return place()._objects  # type: ignore[attr-defined] # the backend is one of objects

    @pytest.fixture(params=["sha2-256", "blake3"])
    def blocks(
        self, objects: ObstoreStorage, tmp_path: Path, request: pytest.FixtureRequest
    ) -> BlockStore:
        cache = BlockCache(LocalStorage(tmp_path / "cache"), hash_function(request.param))
        return ObjectBlocks(PackCatalogue(objects, cache.hash.code), cache, CondemnedPacks(objects))

    @pytest.fixture
    def refs(self, objects: ObstoreStorage, tmp_path: Path) -> RefStore:
        log, locks = RecordLog(objects, lambda said: None), LocalStorage(tmp_path / "locks")
        check: Any = mock.create_autospec(CommitCheck, instance=True)
        return RecordRefs(objects, log, locks, dict, check, lambda: False)


class Repositories(RepositoryContract, SessionStoreContract, MaintenanceContract):
    fsck_reads_packs = False


class TestMemoryBlocks(OnMemory, OnObjects, BlockStoreContract):
    pass


class TestMemoryRefs(OnMemory, OnObjects, RefStoreContract):
    pass


class TestMemoryRepository(OnMemory, OnObjects, Repositories):
    pass


class TestMemoryStoredSessions(Stored, OnMemory, OnObjects, SessionStoreContract):
    pass


class TestMemoryBackend(OnMemory, OnObjects, BackendContract):
    pass


class TestS3Blocks(OnS3, OnObjects, BlockStoreContract):
    pass


class TestS3Refs(OnS3, OnObjects, RefStoreContract):
    pass


class TestS3Repository(OnS3, OnObjects, Repositories):
    pass


class TestS3StoredSessions(Stored, OnS3, OnObjects, SessionStoreContract):
    pass


class TestS3Backend(OnS3, OnObjects, BackendContract):
    pass
