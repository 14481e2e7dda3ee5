"""The block store on lakeFS: values are objects, nodes are computed from listings.

lakeFS stores keys and values. The nodes of trees and commits are a function of them, so this
machine computes and caches them. The block of a value is read from an object that contains it, and
verified against its CID.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from versioned_zarr.backends.lakefs.commits.commit_mapping import CommitMapping
from versioned_zarr.backends.lakefs.lakefs_folder import LakefsFolder
from versioned_zarr.backends.lakefs.trees.metadata_cache import ObjectLocation
from versioned_zarr.backends.lakefs.trees.tree_reader import TreeReader
from versioned_zarr.backends.lakefs.trees.value_readahead import ValueReadAhead
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.blocks.cache.block_cache import BlockCache
from versioned_zarr.blocks.file_reader import join, read_value
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.blocks.protocol import Block, Followable
from versioned_zarr.blocks.remote.nonblocking import NonBlocking
from versioned_zarr.errors import (
    BlockNotFoundError,
    CorruptBlockError,
    InvalidKeyError,
    KeyNotFoundError,
)
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.lru_cache import LruCache

_REMEMBERED_LEAVES = 1 << 16


class LakefsBlocks:
    """A `BlockStore` on a lakeFS repository. Thread-safe.

    Args:
        lakefs_folder: the folder of the repository.
        cache: the cache of recently read or written blocks of values.
        outgoing: a folder for blocks that are stored here but are not on lakeFS yet.
        tree_reader: computes trees.
        commits: reads commits.
    """

    is_remote = True

    def __init__(
        self,
        lakefs_folder: LakefsFolder,
        cache: BlockCache,
        outgoing: LocalStorage,
        tree_reader: TreeReader,
        commits: CommitMapping,
    ) -> None:
        self._client, self.metadata_cache, self.cache = (
            lakefs_folder.client,
            lakefs_folder.metadata_cache,
            cache,
        )
        self._tree_reader, self._commits, self._workers = (
            tree_reader,
            commits,
            lakefs_folder.workers,
        )
        self.hash: HashFunction = lakefs_folder.hash
        self._outgoing = PackStore(outgoing, cache.hash, verify=False)
        weakref.finalize(self, _remove, outgoing.folder, os.getpid())
        self._nearness = NonBlocking()
        self._ahead = ValueReadAhead(self._fetch, cache.__contains__, self._links)
        # The value and the range of its bytes for each leaf.
        self._leaves: LruCache[Cid, tuple[Cid, int, int]] = LruCache(_REMEMBERED_LEAVES)

    # Reading

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`."""
        return self._nearness.asked()

    def check_may_wait(self) -> None:
        """Raise WouldBlockError if the caller must not wait for the server."""
        self._nearness.check()

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`: from this machine, or with a request."""
        found = self._at_hand(cid)
        if cids.is_raw(cid):
            return self._value(cid, found)
        if found is None:
            self.check_may_wait()
            found = self._work_out(cid)
        self._expect_what_it_links(cid, found)
        return found

    def _value(self, cid: Cid, near: memoryview | None) -> memoryview:
        if near is None and self._nearness.is_asked:
            self._ahead.want(cid)
            self.check_may_wait()
        found = self._ahead.get(cid) if near is None else near
        if self.cache.limit_bytes:  # prefetched blocks must be cached
            self._ahead.asked(cid, len(found), was_near=near is not None)
        return found

    def _at_hand(self, cid: Cid) -> memoryview | None:
        found = self.cache.get(cid) if cids.is_raw(cid) else None
        if found is None:
            found = self._outgoing.find_known(cid)  # nobody else writes there
        if found is None and not self._is_value(cid):  # the document of a commit is a raw leaf, too
            node = self.metadata_cache.node(cid)
            found = None if node is None else memoryview(node)
        return found

    def _work_out(self, cid: Cid) -> memoryview:
        """Compute a node that is not cached: of a tree, a commit, or a large value."""
        location = self.metadata_cache.location(cid)
        if location is not None:
            self._read_whole(cid, location)
        else:
            commit = self.metadata_cache.commit_with(cid)
            if commit is None:
                self._commits.search(lambda: self._is_told(cid))
                commit = self.metadata_cache.commit_with(cid)
            if commit is not None:
                self._tree_reader.tree_of(commit)
        node = self.metadata_cache.node(cid)
        if node is None:
            raise self._absent(cid)
        return memoryview(node)

    def _is_told(self, cid: Cid) -> bool:
        metadata_cache = self.metadata_cache
        return metadata_cache.node(cid) is not None or metadata_cache.commit_with(cid) is not None

    def _absent(self, cid: Cid) -> BlockNotFoundError:
        text = to_text(cid)
        return BlockNotFoundError(
            f"block {text} is not in {self._client.repository!r} on lakeFS, as far as this machine "
            "knows; first check out the commit that contains it",
            cid=text,
        )

    def _fetch(self, cid: Cid) -> memoryview:
        """The block of a small value, or a leaf of a large one."""
        came = self.cache.get(cid) if cids.is_raw(cid) else None
        if came is not None:  # fetched ahead of the reader since the lookup
            return came
        leaf = self._leaves.get(cid)
        if leaf is not None:
            value, start, end = leaf
            location = self.metadata_cache.location(value)
        else:
            location, start, end = self.metadata_cache.location(cid), 0, None
        if location is None:
            raise self._absent(cid)
        data = self._read(location, leaf[0] if leaf else cid, start, end)
        cids.check(cid, data, f"{self._client.repository}/{location.ref}/{location.path}")
        self.cache.add(cid, data)
        return memoryview(data)

    def _read(self, location: ObjectLocation, value: Cid, start: int, end: int | None) -> bytes:
        try:
            length = (location.size if end is None else end) - start
            return self._client.read(location.ref, location.path, start, end, expected_bytes=length)
        except KeyNotFoundError:
            self.metadata_cache.forget_location(value)
            raise self._absent(value) from None

    def _read_whole(self, cid: Cid, location: ObjectLocation) -> unixfs.File:
        """Read and verify a large value, after which its nodes are known."""
        file = unixfs.build_file(self._read(location, cid, 0, None), self.hash)
        if file.cid != cid:
            text = to_text(cid)
            raise CorruptBlockError(
                f"{location.path!r} at {location.ref} in {self._client.repository!r} on lakeFS "
                f"hashes to "
                f"{to_text(file.cid)}, not to {text}",
                cid=text,
                where=location.path,
            )
        self.metadata_cache.add_nodes(block for block in file.blocks if not cids.is_raw(block[0]))
        return file

    def read_value(self, cid: Cid, start: int = 0, end: int | None = None) -> memoryview:
        """See `FileReader.read_value`: one request for the leaves of the range."""
        location = self.metadata_cache.location(cid)
        root = self._at_hand(cid)
        if location is None or cids.is_raw(cid) or cid in self._outgoing:
            return read_value(self.get, cid, start, end)
        self.check_may_wait()
        if root is None:
            file = self._read_whole(cid, location)
            leaves = [data for leaf, data in file.blocks if cids.is_raw(leaf)]
            return memoryview(b"".join(leaves)).toreadonly()[start:end]
        stop = location.size if end is None else min(end, location.size)
        if start >= stop:
            return memoryview(b"")
        first = start // unixfs.LEAF_SIZE * unixfs.LEAF_SIZE
        last = min(location.size, -(-stop // unixfs.LEAF_SIZE) * unixfs.LEAF_SIZE)
        data = memoryview(self._read(location, cid, first, last))
        for leaf, low, high in self.leaves_of(cid):
            if low >= first and high <= last:
                cids.check(leaf, data[low - first : high - first], location.path)
        return data[start - first : stop - first]

    def leaves_of(self, cid: Cid) -> Iterator[tuple[Cid, int, int]]:
        """The leaves of a large value, each with its first byte and its end."""
        position = 0
        waiting = [cid]
        while waiting:
            node = unixfs.decode(self._node(waiting.pop()))
            inner = [link.cid for link in node.links if not cids.is_raw(link.cid)]
            if inner:
                waiting += reversed(inner)
                continue
            for link, size in zip(node.links, node.blocksizes, strict=True):
                yield link.cid, position, position + size
                position += size

    def _node(self, cid: Cid) -> memoryview:
        found = self._at_hand(cid)
        return self._work_out(cid) if found is None else found

    def _expect_what_it_links(self, cid: Cid, block: memoryview) -> None:
        """Prepare for reads of what a node links to: values, or the leaves of a large one."""
        node = unixfs.decode(block)
        if node.kind is not unixfs.UnixFsType.FILE:
            self._ahead.saw(cid, node.links)
        elif self.metadata_cache.location(cid) is not None:
            for leaf, low, high in list(self.leaves_of(cid)):
                self._leaves.put(leaf, (cid, low, high))

    def _links(self, cid: Cid) -> Sequence[Link]:
        """The links of a tree node, if it is cached."""
        node = self.metadata_cache.node(cid)
        return () if node is None else unixfs.decode(node).links

    def get_joined(self, wanted: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview:
        """See `BlockStore.get_joined`; blocks that are not local are fetched in parallel."""
        joined = self.cache.get_joined(wanted, sizes_bytes)
        if joined is None:
            joined = join(wanted, sizes_bytes, self._workers.map(self.get, wanted))
        return joined

    def __contains__(self, cid: Cid) -> bool:
        """See `BlockStore.__contains__`."""
        return (
            self._is_value(cid)
            or self.metadata_cache.node(cid) is not None
            or cid in self._outgoing
        )

    def _is_value(self, cid: Cid) -> bool:
        """Whether a block is a value, or a leaf of one, that lakeFS is known to have."""
        return cids.is_raw(cid) and (
            cid in self._leaves or self.metadata_cache.location(cid) is not None
        )

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """See `BlockStore.missing`; for commits and trees, reads the branches' histories."""
        return [cid for cid in wanted if cid not in self and not self._is_reached(cid)]

    def search(self, cid: Cid) -> bool:
        """See `Searchable.search`: finds trees and values, but not parts of a value."""
        for _, head in (*self._client.branches(), *self._client.tags()):
            with contextlib.suppress(InvalidKeyError, CorruptBlockError):  # cannot be served
                self._tree_reader.tree_of(head)
            if cid in self or self.metadata_cache.location(cid) is not None:
                return True
        return False

    def _is_reached(self, cid: Cid) -> bool:
        if cids.is_raw(cid):
            return False
        try:
            return bool(self._work_out(cid))
        except BlockNotFoundError:
            return False

    # Writing

    def put(self, blocks: Sequence[Block], root: Cid) -> None:  # noqa: ARG002 - nodes are stored separately
        """See `BlockStore.put`: kept here until a ref needs them."""
        self.metadata_cache.add_nodes(block for block in blocks if not cids.is_raw(block[0]))
        values = [block for block in blocks if cids.is_raw(block[0])]
        if values:
            self._outgoing.put(values, values[0][0], durable=False)

    def follow(self, draft: Followable) -> None:
        """See `BlockStore.follow`: nothing is sent in advance."""

    def expect(self, blocks: Sequence[Block]) -> None:
        """See `BlockStore.expect`: nothing to do, because nodes are not sent."""

    def publish(self, draft: Followable, root: Cid) -> None:
        """See `BlockStore.publish`."""
        self._outgoing.publish(draft, root, durable=False)

    @contextlib.contextmanager
    def keep(self, cids_: Iterable[Cid]) -> Iterator[bool]:
        """See `BlockStore.keep`: lakeFS keeps everything that its commits need."""
        absent = self.missing(list(cids_))
        yield all(self._commits.has(cid) for cid in absent)

    def refresh(self) -> bool:
        """See `BlockStore.refresh`: the results of other processes are visible immediately."""
        return False


def outgoing_folder() -> str:
    """A folder for blocks that this process is about to send."""
    return f"outgoing/{secrets.token_hex(8)}"


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # not a forked child
        shutil.rmtree(folder, ignore_errors=True)
