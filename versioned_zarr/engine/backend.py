"""The backend protocol: the parts of a repository at one URL, and its marker."""

from __future__ import annotations

import json
from typing import Literal, Protocol

from versioned_zarr.engine.context import OpenOther, RepositoryContext
from versioned_zarr.engine.maintenance.stray_zarr import stray_documents
from versioned_zarr.engine.marker import FOLDER, MARKER, check_layout
from versioned_zarr.engine.partial_clone import packed_or_partial
from versioned_zarr.errors import AlreadyExistsError
from versioned_zarr.history.log_refs import LogRefs
from versioned_zarr.ipld.cid import HashFunction
from versioned_zarr.storage.protocol import Storage
from versioned_zarr.tree.lookup import Trees

Verify = Literal["always", "network", "never"]


class Backend(Protocol):
    """A location where a repository exists or can be created.

    Attributes:
        url: its URL.
        storage: the storage of sessions.
        has_history: whether a newly created repository already has a branch and a commit.
    """

    url: str
    storage: Storage
    has_history: bool

    def check_free(self) -> None:
        """Check that a repository can be created here.

        Raises:
            AlreadyExistsError: the location is not empty.
        """
        ...

    def read_marker(self) -> bytes:
        """The bytes of the marker.

        Raises:
            FileNotFoundError: there is no marker.
        """
        ...

    def write_marker(self, marker: bytes) -> None:
        """Write the marker, which makes it a repository."""
        ...

    def stores(
        self, hash_function: HashFunction, verify: Verify, open_other: OpenOther
    ) -> RepositoryContext:
        """The context of the repository; `open_other` opens others for transfers."""
        ...


BEGUN = "create.json"


def is_begun(backend: Backend, hash_name: str) -> bool:
    """Whether creation of a repository with this hash function was begun here but not finished."""
    try:
        begun = json.loads(bytes(backend.storage.read(BEGUN)))
    except (FileNotFoundError, ValueError):
        return False
    try:
        backend.read_marker()
    except FileNotFoundError:
        return bool(begun == {"hash": hash_name})
    return False


def begin(backend: Backend, hash_name: str) -> None:
    """Record that creation has begun, so that it can be resumed if it is interrupted."""
    backend.storage.put(BEGUN, [json.dumps({"hash": hash_name}).encode()])


class StorageBackend:
    """A backend that keeps everything in one `Storage`: packs, refs, sessions."""

    has_history = False

    def __init__(self, storage: Storage) -> None:
        self.storage, self.url = storage, storage.url

    def check_free(self) -> None:
        """See `Backend.check_free`."""
        if any(not stored.path.startswith("locks/") for stored in self.storage.list("")):
            raise AlreadyExistsError(
                f"{self.url!r} is not empty; open it with vz.open, or choose another location",
                name=self.url,
            )

    def read_marker(self) -> bytes:
        """See `Backend.read_marker`."""
        marker = bytes(self.storage.read(MARKER))
        check_layout(self.url, marker, FOLDER)
        return marker

    def write_marker(self, marker: bytes) -> None:
        """See `Backend.write_marker`."""
        self.storage.put(MARKER, [marker])

    def stores(
        self, hash_function: HashFunction, verify: Verify, open_other: OpenOther
    ) -> RepositoryContext:
        """See `Backend.stores`."""
        blocks = packed_or_partial(
            self.storage, hash_function, open_other, verify=verify == "always"
        )
        trees = Trees(blocks, hash_function)
        refs = LogRefs(self.storage)
        return RepositoryContext(
            self.storage,
            blocks,
            refs,
            trees,
            self.read_marker,
            open_other,
            self.storage,
            strays=lambda: stray_documents(self.storage),
        )
