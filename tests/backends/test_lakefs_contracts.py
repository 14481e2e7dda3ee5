"""A repository on a real lakeFS server keeps every contract that others keep."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.servers.lakefs import LakefsServer
from versioned_zarr.backends.registry import backend_at
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.engine.backend import Backend
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.history.refs import RefStore
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.repository.repository import Repository
from versioned_zarr.testing import (
    BackendContract,
    BlockReadContract,
    BlockStoreContract,
    RefStoreContract,
    RepositoryContract,
    SessionStoreContract,
)
from versioned_zarr.testing.block_store_contract import sample_values
from versioned_zarr.testing.history_contract import commit_values
from versioned_zarr.testing.ref_store_contract import COMMITS

pytestmark = pytest.mark.compat


class TestLakefsBlocks(BlockStoreContract):
    finds_by_hash = False

    @pytest.fixture
    def blocks(self, lakefs: LakefsServer) -> BlockStore:
        return lakefs.create()._stores.blocks


class TestBlocksOfALakefsCommit(BlockReadContract):
    """They are read by a machine that did not write them."""

    has_them_near = False

    @pytest.fixture
    def stored(
        self, lakefs: LakefsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> BlockStore:
        repository = lakefs.create()
        with repository.session(message="samples") as session:
            for key, value in sample_values().items():
                session.write(key, value)
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))
        again = lakefs.reopen(repository)
        list(again.checkout().keys())  # what is asked for by its CID alone has to be known of
        return again._stores.blocks


class TestLakefsRefs(RefStoreContract):
    reads_log = False

    @pytest.fixture
    def repository(self, lakefs: LakefsServer) -> Repository:
        return lakefs.create()

    @pytest.fixture
    def refs(self, repository: Repository) -> RefStore:
        return repository._stores.refs

    @pytest.fixture
    def commits(self, repository: Repository) -> Sequence[Cid]:
        made = [commit_values(repository, {"a": b"%d" % number}) for number in range(COMMITS)]
        return [from_text(commit.cid) for commit in made]


class TestLakefsRepository(RepositoryContract, SessionStoreContract):
    prefix = ""

    @pytest.fixture
    def repository(self, lakefs: LakefsServer) -> Repository:
        return lakefs.create(self.prefix)

    @pytest.fixture
    def reopen(self, lakefs: LakefsServer, repository: Repository) -> Callable[[], Repository]:
        def reopen() -> Repository:
            gc.collect()
            return lakefs.reopen(repository)

        return reopen

    @pytest.mark.parametrize("verb", ["gc", "repack", "fsck"])
    def test_what_lakefs_does_itself_is_left_to_it(self, repository: Repository, verb: str) -> None:
        with pytest.raises(InvalidInputError, match="garbage collection"):
            getattr(repository, verb)()


class TestLakefsFolder(TestLakefsRepository):
    prefix = "experiments/one"


class TestLakefsBackend(BackendContract):
    takes_any_hash = False
    option = ("cache_bytes", 1 << 20)
    prefix = ""

    @pytest.fixture
    def options(self, lakefs: LakefsServer) -> dict[str, Any]:
        namespace = f"{lakefs.namespace}/t-{uuid.uuid4().hex}"
        return {"storage_namespace": namespace, **lakefs.options}

    @pytest.fixture
    def place(self, options: dict[str, Any]) -> Callable[[], Backend]:
        url = f"lakefs://t-{uuid.uuid4().hex}/{self.prefix}".rstrip("/")
        return lambda: backend_at(url, options)[0]


class TestLakefsFolderBackend(TestLakefsBackend):
    prefix = "experiments/one"
