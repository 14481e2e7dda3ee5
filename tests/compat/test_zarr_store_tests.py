"""zarr's own StoreTests, unmodified, on the store of a session.

What the classes below add is what StoreTests asks for: a place to be empty in, a way past the
store to what it holds (the session's mapping), and the three facts that each store states itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from zarr.core.buffer import Buffer, cpu
from zarr.testing.store import StoreTests

from tests.compat.places import (
    Place,
    fresh_session,
    in_folder,
    in_memory,
    in_objects,
    on_lakefs,
    on_s3,
)
from versioned_zarr.interfaces.zarr.zarr_store import VersionedStore


class OnASession(StoreTests[VersionedStore, cpu.Buffer]):
    store_cls = VersionedStore
    buffer_cls = cpu.Buffer
    place: Place

    @pytest.fixture
    def store_kwargs(self, tmp_path: Path) -> dict[str, Any]:
        self.session = fresh_session(type(self).place, tmp_path)
        return {"view": self.session}

    async def set(self, store: VersionedStore, key: str, value: Buffer) -> None:
        self.session.mapping[key] = value.to_bytes()

    async def get(self, store: VersionedStore, key: str) -> Buffer:
        return self.buffer_cls.from_bytes(self.session.mapping[key])

    def test_store_repr(self, store: VersionedStore) -> None:
        assert "main" in repr(store)

    def test_store_supports_writes(self, store: VersionedStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: VersionedStore) -> None:
        assert store.supports_listing


class TestSessionInMemory(OnASession):
    place = staticmethod(in_memory)


class TestSessionInAFolder(OnASession):
    place = staticmethod(in_folder)


class TestSessionInObjects(OnASession):
    place = staticmethod(in_objects)


@pytest.mark.usefixtures("s3_by_environment")
class TestSessionOnS3(OnASession):
    place = staticmethod(on_s3)


@pytest.mark.usefixtures("lakefs_by_environment")
class TestSessionOnLakefs(OnASession):
    place = staticmethod(on_lakefs)
