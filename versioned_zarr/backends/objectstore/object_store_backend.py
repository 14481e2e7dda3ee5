"""The object store backend: a repository of objects that are created only if they do not exist.

Packs, index files, refs and the marker are objects, in a bucket or in a shared folder. Uncommitted
sessions and the cache are local to this machine, in a folder under $VERSIONED_ZARR_HOME.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.local.cache_storage import CacheStorage
from versioned_zarr.backends.local.state_dir import home
from versioned_zarr.backends.objectstore.condemned_packs import CondemnedPacks
from versioned_zarr.backends.objectstore.object_blocks import ObjectBlocks
from versioned_zarr.backends.objectstore.pack_catalogue import PackCatalogue
from versioned_zarr.backends.objectstore.pack_collector import PackCollector
from versioned_zarr.backends.objectstore.record_log import RecordLog
from versioned_zarr.backends.objectstore.record_refs import RecordRefs
from versioned_zarr.backends.objectstore.ref_record import is_record, ref_folder
from versioned_zarr.backends.objectstore.sessions.object_session_log import ObjectSessionLog
from versioned_zarr.blocks.cache.block_cache import BlockCache
from versioned_zarr.blocks.packs.pack import pack_of
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.blocks.remote.lazy_origin import LazyOrigin
from versioned_zarr.engine.backend import Verify
from versioned_zarr.engine.context import OpenOther, RepositoryContext
from versioned_zarr.engine.maintenance.collected import Collector
from versioned_zarr.engine.maintenance.stray_zarr import stray_documents
from versioned_zarr.engine.marker import (
    FOLDER,
    MARKER,
    OBJECTS,
    SHARED,
    check_layout,
    encode_marker,
    hash_name_in,
    identity_in,
)
from versioned_zarr.engine.partial_clone import origin_of
from versioned_zarr.engine.ref_mappings import MAIN
from versioned_zarr.engine.stored_sessions.stored_session_store import StoredSessionStore
from versioned_zarr.errors import (
    AlreadyExistsError,
    ReadOnlyError,
    StorageError,
)
from versioned_zarr.fork_local import ForkSafeFuture, threads
from versioned_zarr.history.refs import HEADS
from versioned_zarr.ipld.cid import HashFunction
from versioned_zarr.storage.conditional_store import ConditionalStore
from versioned_zarr.storage.object_store import Stored
from versioned_zarr.storage.protocol import Storage
from versioned_zarr.tree.lookup import Trees

_IDENTITY: Final = "identity"
_PAUSES_S: Final = (0.1, 0.3, 1.0)
"""Between attempts to create the marker while others seem to."""


class ObjectStoreBackend:
    """A repository of objects; see `versioned_zarr.engine.backend.Backend`.

    Args:
        objects: where they are.
        cache_bytes: the size of the cache on this machine.
    """

    has_history = False
    layout = OBJECTS
    """What its marker says; see `layout_in`."""

    def __init__(self, objects: ConditionalStore, cache_bytes: int) -> None:
        self._objects, self.url, self._cache_bytes = objects, objects.url, cache_bytes
        self._workers = threads(1, "vz-open")
        self._is_free = False
        self._marker: bytes | None = None
        self._written: bytes | None = None
        self._listed: dict[str, ForkSafeFuture[Stored | None]] = {}
        self._homes = home() / "objects"
        digest = hashlib.sha256(self.url.encode()).hexdigest()[:32]
        # What is known before the repository exists, by the only name that it has then.
        self.storage: Storage = LocalStorage(self._homes / "urls" / digest, url=self.url)

    def check_free(self) -> None:
        """See `Backend.check_free`; one request."""
        if self._is_free:  # this process looked just now
            return
        if not self._objects.can_list:
            raise ReadOnlyError(f"{self.url!r} is a web server, which is read-only", url=self.url)
        found = self._objects.first("")
        self._is_free = found is None
        if found is not None:
            raise AlreadyExistsError(
                f"{self.url!r} is not empty ({found.path!r} is there); open it with vz.open, or "
                "choose another location",
                name=self.url,
            )

    def read_marker(self) -> bytes:
        """See `Backend.read_marker`; one request, and another for the branch `main` beside it."""
        written, self._written = self._written, None
        if written is not None:
            self._marker = written
            return written
        if self._objects.can_list and not self._listed:
            folder = ref_folder(HEADS, MAIN)
            listing = self._workers().submit(self._objects.first, folder, is_record)
            self._listed[folder] = ForkSafeFuture(listing)
        marker = bytes(self._objects.read(MARKER))
        self._check_layout(marker)
        self._marker = marker
        return marker

    def _check_layout(self, marker: bytes) -> None:
        """Make sure that a marker is of this layout.

        Raises:
            FormatError: it is of another one.
        """
        check_layout(self.url, marker, FOLDER, OBJECTS)  # objects without an id are old ones

    def write_marker(self, marker: bytes) -> None:
        """See `Backend.write_marker`; two requests, of which the second must fail.

        Raises:
            AlreadyExistsError: another process created a repository here with another hash.
            StorageError: the store overwrites objects that must be new.
        """
        hash_name = hash_name_in(marker)
        is_shared = self.layout == SHARED
        marker = encode_marker(hash_name, self._identity(), is_shared=is_shared)
        there = self._created(marker)
        if hash_name_in(there) != hash_name:
            raise AlreadyExistsError(
                f"another process created a repository at {self.url!r} with another hash "
                "function; open it with vz.open",
                name=self.url,
            )
        self._check_conditional(marker)
        self._is_free, self._written = False, there
        self.storage.delete(_IDENTITY)

    def _created(self, marker: bytes) -> bytes:
        """Create the marker; returns the one that is there then."""
        for pause_s in _PAUSES_S:
            try:
                self._objects.create(MARKER, marker)
            except FileExistsError:
                with suppress(FileNotFoundError):
                    return self.read_marker()
                time.sleep(pause_s)  # others may be creating it
            else:
                return marker
        raise StorageError(
            f"{self.url!r} did not create {MARKER!r}: it says that another operation on that "
            "object is under way; try again",
            where=self.url,
        )

    def _check_conditional(self, marker: bytes) -> None:
        """Check that the store creates an object only if it does not exist."""
        try:
            self._objects.create(MARKER, marker)
        except FileExistsError:
            return
        with suppress(StorageError, ReadOnlyError):  # nobody must open it
            self._objects.delete(MARKER)
        raise StorageError(
            f"{self.url!r} does not support conditional writes: it overwrote an object that was to "
            "be created only if absent, so concurrent commits could be lost; use a store that "
            "honors If-None-Match: *, or a file system that creates a file exclusively",
            where=self.url,
        )

    def _identity(self) -> str:
        """The identity of this repository, which distinguishes it from later ones at its URL."""
        if self._marker is not None:
            return identity_in(self._marker) or ""
        with suppress(FileNotFoundError):
            return bytes(self.storage.read(_IDENTITY)).decode()
        if not self._is_free:
            with suppress(FileNotFoundError):
                return identity_in(bytes(self._objects.read(MARKER))) or ""
        made = secrets.token_hex(16)
        self.storage.put(_IDENTITY, [made.encode()])
        return made

    def _folder(self) -> Path:
        """The folder of this machine for the repository."""
        digest = hashlib.sha256(f"{self.url}\n{self._identity()}".encode()).hexdigest()[:32]
        name = self.url.rpartition("://")[2]
        return self._homes / f"{quote(name, safe='')[:64]}-{digest}"

    def stores(
        self, hash_function: HashFunction, verify: Verify, open_other: OpenOther
    ) -> RepositoryContext:
        """See `Backend.stores`; no request but for the marker."""
        storage = CacheStorage(self._folder() / hash_function.name, url=self.url)
        cache = BlockCache(
            storage, hash_function, limit_bytes=self._cache_bytes, verify=verify == "always"
        )
        catalogue = self._catalogue(hash_function.code)
        condemned = CondemnedPacks(self._objects)
        completion = LazyOrigin(
            lambda: origin_of(self._objects, open_other),
            partial(_store_fetched, catalogue, hash_function),
        )
        blocks = self._blocks(verify)(catalogue, cache, condemned, completion)
        log = RecordLog(self._objects, catalogue.learn, self._listed)
        refs = RecordRefs(
            self._objects, log, storage, blocks.to_record, blocks.check, lambda: self._is_free
        )
        session_log = ObjectSessionLog(self._objects, catalogue, blocks.registry, hash_function)
        collector = self._collector(
            PackCollector(self._objects, blocks, condemned, refs, session_log)
        )
        context = RepositoryContext(
            storage,
            blocks,
            refs,
            Trees(blocks, hash_function),
            self.read_marker,
            open_other,
            self._objects,
            collector=collector,
            session_roots=session_log.roots,
            strays=lambda: stray_documents(self._objects),
        )
        context.session_store = StoredSessionStore(context, session_log)
        return context

    def _catalogue(self, hash_code: int) -> PackCatalogue:
        return PackCatalogue(self._objects, hash_code)

    def _blocks(self, verify: Verify) -> Callable[..., ObjectBlocks]:
        """Makes the blocks; those from a network are always verified when they arrive."""
        del verify
        return ObjectBlocks

    def _collector(self, collector: PackCollector) -> Collector:
        """What runs `gc` and `repack`."""
        return collector


def _store_fetched(
    catalogue: PackCatalogue, hash_function: HashFunction, blocks: list[Block]
) -> None:
    """Store fetched blocks of a partial clone; errors only leave them at its origin."""
    with suppress(StorageError, ReadOnlyError):
        catalogue.put_pack(pack_of(blocks, blocks[-1][0], hash_function))
