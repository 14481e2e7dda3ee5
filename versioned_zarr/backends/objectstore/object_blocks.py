"""The block store on an object store: packs that are written by one request each.

Reads go through a cache on this machine, and are verified against their CIDs when they arrive.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, Final

from versioned_zarr.backends.objectstore.commit_check import CommitCheck
from versioned_zarr.backends.objectstore.condemned_packs import CondemnedPacks
from versioned_zarr.backends.objectstore.pack_catalogue import NEWEST, PackCatalogue
from versioned_zarr.backends.objectstore.pack_upload import PACK_BYTES, PackUpload, PackUploads
from versioned_zarr.blocks.cache.block_cache import BlockCache
from versioned_zarr.blocks.cache.memory_cache import MemoryCache
from versioned_zarr.blocks.file_reader import check_size
from versioned_zarr.blocks.packs.index import BlockLocation
from versioned_zarr.blocks.packs.membership import Membership
from versioned_zarr.blocks.packs.pack import pack_of
from versioned_zarr.blocks.packs.pack_registry import INDEX, PACKS, PackRegistry, pack_path
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.blocks.packs.ranged_run import RangedRun
from versioned_zarr.blocks.protocol import Block, ByteRange, Followable
from versioned_zarr.blocks.remote.lazy_origin import LazyOrigin
from versioned_zarr.blocks.remote.nonblocking import NonBlocking
from versioned_zarr.blocks.remote.singleflight import SingleFlight
from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError
from versioned_zarr.fork_local import ForkLocal
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction, to_text

MEMORY_BYTES: Final = 64 << 20
_LISTED_EVERY_S: Final = 10.0
_CACHED_BYTES: Final = 1 << 20
"""Values of more than one leaf are not cached: reading them again costs one request each."""


class ObjectBlocks:
    """A `BlockStore` on an object store. Thread-safe; many machines may share the store.

    Args:
        catalogue: the packs.
        cache: the blocks that were written or read on this machine.
        condemned: the packs that a gc may be deleting.
        completion: fetches blocks that a partial clone lacks; None if it is never partial.
        verify: whether blocks are verified when they arrive.
    """

    is_remote = True
    pack_bytes = PACK_BYTES

    def __init__(
        self,
        catalogue: PackCatalogue,
        cache: BlockCache,
        condemned: CondemnedPacks,
        completion: LazyOrigin | None = None,
        *,
        verify: bool = True,
    ) -> None:
        self.catalogue, self.cache, self._completion = catalogue, cache, completion
        self.hash: HashFunction = cache.hash
        self._packed = PackStore(catalogue, cache.hash, verify=verify)
        self._uploads = PackUploads(catalogue, lambda: self.check.condemned, self._missing_at_hand)
        self.check = CommitCheck(self, catalogue, self._packed.registry, condemned, self.is_partial)
        self._nearness = NonBlocking()
        self._recent = MemoryCache(MEMORY_BYTES)
        self._newest: str | None = None
        self._there: tuple[float, AbstractSet[str], Mapping[str, int]] = -math.inf, set(), {}
        self._flights: ForkLocal[SingleFlight[memoryview]] = ForkLocal(SingleFlight[memoryview])

    @property
    def registry(self) -> PackRegistry:
        """The locations of the blocks in the packs."""
        return self._packed.registry

    def is_partial(self) -> bool:
        """See `PartialBlocks.is_partial`; a request until it is found to be."""
        return self._completion is not None and self._completion.origin() is not None

    # Reading

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`."""
        return self._nearness.asked()

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`: from the cache, or with one request for it and its neighbors."""
        found = self._find(cid)
        if found is None and (found := self._peek(cid)) is not None:
            self._keep(cid, found)
        if found is not None:
            return found
        self._nearness.check()
        return self._flights().take(cid, partial(self._fetched, cid))

    def get_verified(self, cid: Cid) -> memoryview:
        """See `HasCache.get_verified`."""
        found = self.get(cid)
        return found if cids.matches(cid, found) else self._packed.get(cid)

    def get_here(self, cid: Cid) -> memoryview:
        """See `PartialBlocks.get_here`."""
        found = self._find(cid)
        if found is None:
            self._packed.refresh()
            if cid not in self._packed and self.is_partial():  # a request if it is not
                self.catalogue.scan()
                self._packed.refresh()
                if cid not in self._packed:
                    return memoryview(unixfs.EMPTY_DIRECTORY)
        return self.get(cid) if found is None else found

    def _find(self, cid: Cid) -> memoryview | None:
        found = self._recent.get(cid)
        if found is None:
            found = self.cache.get(cid)
        return self._completion.get(cid) if found is None and self._completion else found

    def _fetched(self, cid: Cid) -> memoryview:
        found = self._at_hand(cid)
        if found is None:
            found = self._searched(cid)
        self._keep(cid, found)
        return found

    def _peek(self, cid: Cid) -> memoryview | None:
        """A block that came with one that was read before; does not block."""
        return self._in_memory(cid, self.catalogue.peek)

    def _in_memory(
        self, cid: Cid, read: Callable[[str, int, int], memoryview | None]
    ) -> memoryview | None:
        """The block at the first location whose bytes `read` returns and are sound."""
        for place in self._places_at_hand(cid):
            found = read(pack_path(place.pack), place.start, place.start + place.size)
            if found is not None and self._is_sound(cid, found, place.size):
                return found
        return None

    def _is_sound(self, cid: Cid, data: memoryview, size: int) -> bool:
        if self._packed.verify or not cids.is_raw(cid):
            return cids.matches(cid, data)
        return len(data) == size

    def _places_at_hand(self, cid: Cid) -> Iterator[BlockLocation]:
        """The locations of a block by the indexes in memory; others are looked up by requests."""
        known = self._packed.registry.known
        for run in known.runs:
            if not isinstance(run, RangedRun):
                yield from (place for place in run.find(cid[-32:]) if place.pack in known.packs)

    def _searched(self, cid: Cid) -> memoryview:
        """A block from a pack that is known, from any other, or from the origin of this clone."""
        try:
            return self._packed.get(cid)
        except BlockNotFoundError:
            found_more = True
            while found_more:  # a gc may delete a pack again before it is read
                found_more = self.catalogue.scan()
                with contextlib.suppress(BlockNotFoundError):
                    return self._packed.get(cid)
            origin = None if self._completion is None else self._completion.origin()
            if self._completion is None or origin is None:
                raise
            return self._completion.fetch(cid, origin)

    def _at_hand(self, cid: Cid) -> memoryview | None:
        """A block in the end of a pack that was read already; it may be in other packs, too."""
        self._packed.refresh()
        return self._in_memory(cid, self.catalogue.at_hand)

    def _keep(self, cid: Cid, data: memoryview) -> None:
        if len(data) <= _CACHED_BYTES:
            self._recent.add(cid, data)
            self.cache.add(cid, data)

    def get_joined(self, wanted: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview:
        """See `BlockStore.get_joined`: one request if the blocks are contiguous."""
        joined = self.cache.get_joined(wanted, sizes_bytes)
        if joined is None:
            self._nearness.check()
            try:
                joined = self._packed.get_joined(wanted, sizes_bytes)
            except BlockNotFoundError:
                joined = self._joined(wanted, sizes_bytes)
            if len(joined) <= _CACHED_BYTES:
                at = 0
                for cid, size in zip(wanted, sizes_bytes, strict=True):
                    self._keep(cid, joined[at : at + size])
                    at += size
        return joined

    def _joined(self, wanted: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview:
        """Blocks that are not all in packs that are known, fetched one by one."""
        blocks = [self.get(cid) for cid in wanted]
        for cid, size, block in zip(wanted, sizes_bytes, blocks, strict=True):
            check_size(cid, len(block), size)
        return memoryview(b"".join(blocks))

    def locate(self, wanted: Sequence[Cid], sizes_bytes: Sequence[int]) -> ByteRange | None:
        """See `LocatedBlocks.locate`."""
        return self._packed.locate(wanted, sizes_bytes)

    def __contains__(self, cid: Cid) -> bool:
        """See `BlockStore.__contains__`; new packs and long index files may cost requests.

        Raises:
            WouldBlockError: they would, and this thread must not wait.
        """
        if not self.catalogue.is_at_hand(self._packed.registry):
            self._nearness.check()
        self._packed.refresh()  # compares two numbers if no record named new packs
        return cid in self._packed

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """See `BlockStore.missing`: lists the store if one of them is in no known pack.

        Blocks that are only in packs known to be condemned are missing, too.
        """
        absent = self._absent(wanted)
        return self._absent(absent) if absent and self.catalogue.scan() else absent

    def _missing_at_hand(self, wanted: Sequence[Cid]) -> AbstractSet[Cid]:
        """Those of the blocks that no known pack has; all if long index files would be read."""
        self._packed.refresh()
        if not self.catalogue.is_at_hand(self._packed.registry):
            return set(wanted)
        return set(self._absent(wanted))

    def _absent(self, wanted: Sequence[Cid]) -> list[Cid]:
        condemned = self.check.condemned
        if not condemned:
            return self._packed.missing(wanted)
        self._packed.refresh()
        known = self._packed.registry.known
        absent = Membership(known.runs, known.packs - condemned).missing(wanted)
        return [cid for cid in wanted if cid in absent]

    def problems(
        self, wanted: Sequence[Cid], *, read_all: bool
    ) -> dict[Cid, BlockNotFoundError | CorruptBlockError]:
        """See `ServedBlocks.problems`; lists the packs, and once more after ten seconds."""
        found: dict[Cid, BlockNotFoundError | CorruptBlockError] = {}
        for cid in self.missing(wanted):
            found[cid] = self._is_not_there(cid)
        sizes = self._packs_there()
        for cid in wanted:
            places = self._packed.registry.find_all(cid)
            if not any(place.start + place.size <= sizes.get(place.pack, -1) for place in places):
                found[cid] = self._is_not_there(cid)
        for cid in wanted if read_all else ():
            try:
                self._packed.get(cid)
            except (BlockNotFoundError, CorruptBlockError) as error:
                found[cid] = error
        return found

    def _is_not_there(self, cid: Cid) -> BlockNotFoundError:
        text = to_text(cid)
        return BlockNotFoundError(f"block {text} is not in {self.catalogue.url}", cid=text)

    def _packs_there(self) -> Mapping[str, int]:
        """The sizes of the packs in the store: records and index files may name lost ones."""
        listed_s, looked_for, sizes = self._there
        now_s = time.monotonic()
        known = self._packed.registry.known.packs
        if not known <= looked_for or now_s - listed_s > _LISTED_EVERY_S:
            sizes = self.catalogue.look()
            self._there = now_s, known, sizes
        return sizes

    def packs(self) -> Mapping[str, int]:
        """See `CountedPacks`."""
        return self.catalogue.look()

    def packs_of(self, cids_: Sequence[Cid]) -> list[AbstractSet[str]]:
        """See `PlacedBlocks.packs_of`."""
        return self._packed.packs_of(cids_)

    def common_pack(self, cids_: Sequence[Cid], sizes_bytes: Sequence[int]) -> str | None:
        """See `PlacedBlocks.common_pack`."""
        return self._packed.common_pack(cids_, sizes_bytes)

    # Writing

    def _store_fetched(self) -> None:
        """Store blocks fetched from an origin, because new blocks may need them."""
        if self._completion is not None:
            self._completion.flush()

    def expect(self, blocks: Sequence[Block]) -> None:
        """See `BlockStore.expect`: they are sent with the commit, in one pack."""

    def put(self, blocks: Sequence[Block], root: Cid) -> None:
        """See `BlockStore.put`: one request.

        The Zarr documents of the drafts that were sent before are stored once more, next to the
        nodes, so that one request reads both when the commit is opened.
        """
        self._store_fetched()
        known = {cid for cid, _ in blocks}
        documents = self._uploads.documents.take()
        extra = [block for block in documents.items() if block[0] not in known]
        self._newest = self.catalogue.put_pack(pack_of([*extra, *blocks], root, self.hash))
        self._packed.registry.learn(self._newest)
        for cid, data in blocks:
            self._recent.add(cid, memoryview(data).toreadonly())

    def follow(self, draft: Followable) -> None:
        """See `BlockStore.follow`: a draft is sent when it is full."""
        self._uploads.follow(draft)

    def publish(self, draft: Followable, root: Cid) -> None:
        """See `BlockStore.publish`: one request, or one for every 64 MiB of a longer draft."""
        self._store_fetched()
        follower = draft.follower
        upload = follower if isinstance(follower, PackUpload) else PackUpload(self._uploads, draft)
        self._packed.registry.learn(upload.finish(root))
        self._uploads.documents.add_from(draft)

    def let_go(self, draft: Followable, root: Cid) -> None:
        """See `ServedBlocks.let_go`: it fills the cache."""
        self.cache.publish(draft, root, 0)

    @contextlib.contextmanager
    def keep(self, wanted: Iterable[Cid]) -> Iterator[bool]:
        """See `BlockStore.keep`: `CommitCheck` makes sure of it when a ref names them."""
        listed = list(wanted)
        if listed:
            self._nearness.check()
        yield not listed or not self.missing(listed)

    def refresh(self) -> bool:
        """See `BlockStore.refresh`: takes in what records said."""
        return self._packed.refresh()

    # Records

    def to_record(self) -> Mapping[str, Any]:
        """What a ref record says of packs: the index files, and the packs that these lack."""
        self._packed.refresh()
        known = self._packed.registry.known
        return {
            INDEX: [name for name, _ in known.merged],
            PACKS: [run.packs[0] for run in known.single],
            NEWEST: [self._newest] if self._newest else [],
        }
