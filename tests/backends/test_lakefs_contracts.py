"""A repository on a real lakeFS server keeps every contract that others keep."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from tests.servers.lakefs import LakefsServer
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.repository.repository import Repository
from versioned_zarr.testing import RepositoryContract, SessionStoreContract

pytestmark = pytest.mark.compat


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
