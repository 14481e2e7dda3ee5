"""Blocks from gateways: fetched in few requests, verified before use, and cached.

One CAR request fetches a directory with all its shards, or a value of up to 4 MiB. A folder of up
to 1 MiB is fetched whole, and so is a larger one if that much has been read before. A gateway
without CAR support is asked block by block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Never

from versioned_zarr.backends.gateway.client import NoCarError, lie
from versioned_zarr.backends.gateway.hedging import Attempt, Gateways
from versioned_zarr.blocks.cache.block_cache import BlockCache
from versioned_zarr.blocks.cache.memory_cache import MemoryCache
from versioned_zarr.blocks.file_reader import join
from versioned_zarr.blocks.protocol import Block, Followable
from versioned_zarr.blocks.remote.nonblocking import NonBlocking
from versioned_zarr.blocks.remote.readahead import WHOLE_BYTES, ReadAhead
from versioned_zarr.errors import (
    CorruptBlockError,
    CorruptError,
    InvalidCidError,
    ReadOnlyError,
    StorageError,
)
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import CID_SIZE, Cid, HashFunction, to_text
from versioned_zarr.ipld.identity import inline
from versioned_zarr.ipld.unixfs import VALUES, UnixFsNode
from versioned_zarr.tree.dag_nodes import (
    corrupt,
    decode_node,
    links_of,
    pieces,
    sized_parts,
)

AHEAD_BYTES: Final = 4 << 20
"""This much of a value is fetched with its root: usually all of it, if it is a chunk."""
MEMORY_BYTES: Final = 64 << 20
_SLACK_BYTES: Final = 16 << 20
"""The maximum size of the nodes above the leaves in a response."""
_HEADS_BYTES: Final = 64 << 10
"""The maximum size of the CIDs between blocks, in addition to twice the size in a link."""
_CAR_TRIES: Final = 3
_WORKERS: Final = 8

_Absent = tuple[Cid, int, int]


class GatewayBlocks:
    """A read-only `BlockStore`. Thread-safe; many processes may share the cache.

    Args:
        gateways: the gateways.
        cache: the cache of blocks with its hash function; others are cached in memory.
    """

    is_remote = True

    def __init__(self, gateways: Gateways, cache: BlockCache) -> None:
        self.gateways, self.cache = gateways, cache
        self.hash: HashFunction = cache.hash
        self._cached_prefix = bytes((self.hash.code, 32))
        self._nearness = NonBlocking()
        self._recent = MemoryCache(MEMORY_BYTES)
        self._ahead = ReadAhead(
            find=self._find,
            fetch=self._fetch,
            fetch_all=self._fetch_all,
            can_fetch_all=self._has_car,
            sizes_below=_sizes_below,
            nearness=self._nearness,
        )

    # Reading

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`."""
        return self._nearness.asked()

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`; also fetches the neighbors of a directory or value.

        Raises:
            StorageError: no gateway returned it; the message lists the error of each.
        """
        return self._ahead.get(_version_1(cid))

    def _has_car(self) -> bool:
        return any(each.has_car for each in self.gateways.all)

    def get_joined(self, wanted: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview:
        """See `BlockStore.get_joined`."""
        return join(wanted, sizes_bytes, map(self.get, wanted))

    def read_value(self, cid: Cid, start: int = 0, end: int | None = None) -> memoryview:
        """See `FileReader.read_value`: the leaves of a range are fetched in one request."""
        root = self.get(cid)
        if cids.is_raw(cid):
            return root[start:end]
        node = decode_node(cid, root)
        if node.kind not in VALUES:
            raise corrupt(cid, f"a {node.kind.name.lower()}, not a value")
        stop = node.size if end is None else min(end, node.size)
        if start >= stop:
            return memoryview(b"")
        held: dict[Cid, memoryview] = {}  # the cache may drop blocks at any time

        def get(wanted: Cid) -> memoryview:
            found = held.get(_version_1(wanted))
            return self.get(wanted) if found is None else found

        self._gather(_version_1(cid), node, start, stop, held)
        found = list(pieces(get, cid, start, stop))
        return found[0] if len(found) == 1 else memoryview(b"".join(found))

    def _gather(
        self, root: Cid, node: UnixFsNode, start: int, stop: int, held: dict[Cid, memoryview]
    ) -> None:
        """Fetch the blocks below a value's root that contain a range of it."""
        for _ in range(_CAR_TRIES):
            absent = self._absent(node, start, stop, held)
            if not absent:
                return
            self._nearness.check()
            if len(absent) == 1 or not self._has_car():
                break
            low, high = absent[0][1], absent[-1][2]
            query = {"dag-scope": "entity", "entity-bytes": f"{low}:{high - 1}"}
            self._fetch_car(root, query, high - low + _SLACK_BYTES, held)
        with ThreadPoolExecutor(_WORKERS, "gateway") as pool:
            while absent := self._absent(node, start, stop, held):
                wanted = [cid for cid, _, _ in absent]
                held.update(zip(wanted, pool.map(self.get, wanted), strict=True))

    def _absent(
        self, root: UnixFsNode, start: int, stop: int, held: dict[Cid, memoryview]
    ) -> list[_Absent]:
        """The blocks of a range that are not cached, as far as their parents are, in order.

        Each with its part of the value's byte range.
        """
        absent: list[_Absent] = []
        stack = [(root, start, stop, start)]
        while stack:
            node, low, high, at = stack.pop()
            at += max(0, min(len(node.data), high) - low)
            below: list[tuple[UnixFsNode, int, int, int]] = []
            for (cid, first, last), _ in sized_parts(node, low, high):
                key = _version_1(cid)
                block = held.get(key)
                if block is None:
                    block = self._find(cid)
                if block is None:
                    absent.append((key, at, at + last - first))
                else:
                    held[key] = block
                    if not cids.is_raw(cid):
                        below.append((decode_node(cid, block), first, last, at))
                at += last - first
            stack += reversed(below)
        absent.sort(key=lambda each: each[1])
        return absent

    def _find(self, cid: Cid) -> memoryview | None:
        key = _version_1(cid)
        held = inline(key)
        if held is not None:
            return memoryview(held)
        found = self._recent.get(key)
        if found is None and self._is_cached(key):
            with contextlib.suppress(CorruptError, StorageError):  # a damaged cache counts as empty
                found = self.cache.get(key)
        return found

    def _is_cached(self, cid: Cid) -> bool:
        return len(cid) == CID_SIZE and cid[2:4] == self._cached_prefix

    # Fetching

    def _fetch(self, cid: Cid, size_bytes: int | None, came: dict[Cid, memoryview]) -> None:
        """Fetch a block, and blocks that are likely read with it; see `readahead.FetchBlocks`."""
        del size_bytes
        if cids.is_raw(cid):
            self.gateways.ask(lambda attempt: self._bring_block(attempt, cid, came), to_text(cid))
        else:
            query = {"dag-scope": "entity", "entity-bytes": f"0:{AHEAD_BYTES - 1}"}
            self._fetch_car(cid, query, AHEAD_BYTES + _SLACK_BYTES, came)

    def _fetch_all(self, cid: Cid, size_bytes: int | None, came: dict[Cid, memoryview]) -> None:
        """Fetch a node and everything below it; stops if it is larger than stated."""
        limit_bytes = 2 * (size_bytes or WHOLE_BYTES) + _HEADS_BYTES
        self._fetch_car(cid, {"dag-scope": "all"}, limit_bytes, came)

    def _fetch_car(
        self, cid: Cid, query: dict[str, str], limit_bytes: int, held: dict[Cid, memoryview]
    ) -> None:
        def errand(attempt: Attempt) -> None:
            if attempt.gateway.has_car:
                try:
                    self._bring_car(attempt, cid, query, limit_bytes, held)
                except NoCarError:
                    attempt.gateway.has_car = False
                else:
                    return
            self._bring_block(attempt, cid, held)

        self.gateways.ask(errand, to_text(cid))

    def _bring_block(self, attempt: Attempt, cid: Cid, held: dict[Cid, memoryview]) -> None:
        data = attempt.gateway.block(cid, attempt.stop)
        if not cids.matches(cid, data):
            raise lie(cid)
        self._keep(cid, data, held)
        attempt.begin()

    def _bring_car(
        self,
        attempt: Attempt,
        root: Cid,
        query: dict[str, str],
        limit_bytes: int,
        held: dict[Cid, memoryview],
    ) -> None:
        """Cache the blocks of a CAR that are below its root; all others are ignored.

        They are added when all have arrived, the root last: whoever finds the root finds the rest.
        """
        came: dict[Cid, bytes] = {}
        try:
            self._read_car(attempt, root, query, limit_bytes, came)
        finally:
            for cid, data in reversed(came.items()):
                self._keep(cid, data, held)
        if root not in came:
            raise lie(root)

    def _read_car(
        self,
        attempt: Attempt,
        root: Cid,
        query: dict[str, str],
        limit_bytes: int,
        came: dict[Cid, bytes],
    ) -> None:
        wanted = {root}
        for section in attempt.gateway.sections(root, query, attempt.stop, limit_bytes):
            cid = _version_1(section.cid)
            if cid not in wanted or inline(cid) is not None:
                continue
            try:
                if not cids.matches(cid, section.data):
                    raise lie(cid)
            except InvalidCidError:
                if cid == root:
                    raise
                continue
            came[cid] = section.data
            attempt.begin()
            if not cids.is_raw(cid):
                self._look_below(cid, section.data, wanted)

    def _look_below(self, cid: Cid, block: bytes, wanted: set[Cid]) -> None:
        with contextlib.suppress(CorruptBlockError):  # reported when it is read
            wanted.update(_version_1(link.cid) for link in links_of(cid, block))

    def _keep(self, cid: Cid, data: bytes, held: dict[Cid, memoryview]) -> None:
        held[cid] = memoryview(data)
        self._recent.add(cid, held[cid])
        if self._is_cached(cid):
            with contextlib.suppress(StorageError, ReadOnlyError):  # a failing cache does no harm
                self.cache.add(cid, data)

    # Unsupported operations

    def __contains__(self, cid: Cid) -> bool:
        """See `BlockStore.__contains__`."""
        return self._find(cid) is not None

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """See `BlockStore.missing`: those that are not cached; sends no request."""
        return [cid for cid in wanted if cid not in self]

    def put(self, blocks: Sequence[Block], root: Cid) -> None:
        """Raises, because gateways are read-only."""
        del blocks, root
        self._refuse()

    def follow(self, draft: Followable) -> None:
        """Raises, because gateways are read-only."""
        del draft
        self._refuse()

    def expect(self, blocks: Sequence[Block]) -> None:
        """Raises, because gateways are read-only."""
        del blocks
        self._refuse()

    def publish(self, draft: Followable, root: Cid) -> None:
        """Raises, because gateways are read-only."""
        del draft, root
        self._refuse()

    @contextlib.contextmanager
    def keep(self, cids_: Iterable[Cid]) -> Iterator[bool]:
        """See `BlockStore.keep`: a gateway cannot guarantee it."""
        del cids_
        yield False

    def refresh(self) -> bool:
        """See `BlockStore.refresh`."""
        return False

    def _refuse(self) -> Never:
        name = self.gateways.all[0].name
        raise ReadOnlyError(f"gateway {name!r} is read-only", url=name)


def _version_1(cid: Cid) -> Cid:
    """The CIDv1 of a block, by which it is cached: links may use version 0."""
    return Cid(b"\x01\x70" + cid) if cid[:2] == b"\x12\x20" else cid


def _sizes_below(cid: Cid, block: memoryview) -> list[tuple[Cid, int]]:
    """The links of a node with their total sizes; numeric names in numeric order."""
    with contextlib.suppress(CorruptBlockError):  # reported when it is read
        links = sorted(links_of(cid, block), key=lambda link: (len(link.name), link.name))
        return [(_version_1(link.cid), link.tsize) for link in links]
    return []
