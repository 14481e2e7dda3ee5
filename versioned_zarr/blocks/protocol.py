"""The block store protocol: the interface between the engine and the storage of blocks.

`PackStore` stores blocks in packs on a `Storage`. The contract suite
`versioned_zarr.testing.BlockStoreContract` specifies each method in code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from versioned_zarr.errors import BlockNotFoundError, CollectedError, CorruptBlockError
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.protocol import Bytes, FilePart

Block: TypeAlias = tuple[Cid, Bytes]


class WouldBlockError(Exception):
    """A block would have to be fetched, and the caller did not allow that. Package-internal."""


class StagedBlocksCollectedError(CollectedError):
    """A gc took blocks before a ref named them; whoever has them can store them again.

    Attributes:
        is_condemned: whether they are still there, so that the gc may yet spare them.
    """

    facts = (*CollectedError.facts, "is_condemned")
    is_condemned: bool


class Publishable(Protocol):
    """A finished draft of a pack, ready for the store to publish."""

    def publish(self, path: str, root: Cid, *, durable: bool = True) -> None:
        """Publish the draft as a pack at `path`; `durable` as in `Storage.put`."""
        ...


class Follower(Protocol):
    """Reads a draft while it is being written."""

    def grown(self) -> None:
        """Called occasionally, from any thread, when there is more to read; does not block."""
        ...


class Followable(Publishable, Protocol):
    """A draft that a store may read while it is being written, to finish sooner."""

    is_recovered: bool
    """Whether another process wrote it, so that it is unknown how much of it was stored."""
    follower: Follower | None
    """Notified when the draft grows."""

    @property
    def end(self) -> int:
        """The number of bytes of blocks, including blocks that are still being written."""
        ...

    @property
    def is_sound(self) -> bool:
        """Whether all blocks are written, without holes."""
        ...

    def sealed(self, root: Cid) -> Sequence[Bytes]:
        """The bytes of the pack that the draft becomes; the last part is its tail."""
        ...

    def finished(self, number: int = 0) -> Iterator[tuple[Cid, int, int]]:
        """The written blocks after the first `number`: CIDs, first byte, and end."""
        ...

    def part(self, start: int, end: int) -> Bytes | FilePart:
        """A range of bytes of the draft; see `StagedPack.part`."""
        ...

    def read(self, start: int, end: int) -> memoryview:
        """The bytes of the draft from `start` to `end`."""
        ...


class ByteRange(NamedTuple):
    """A range of bytes in a file or an object.

    Attributes:
        url: the URL of the file or object.
        offset: the first byte.
        size: the number of bytes.
    """

    url: str
    offset: int
    size: int


class BlockStore(Protocol):
    """Blocks by CID. All methods are thread-safe.

    Attributes:
        hash: the hash function of the CIDs.
        is_remote: whether `get` may wait for a network.
    """

    hash: HashFunction
    is_remote: bool

    def get(self, cid: Cid) -> memoryview:
        """The bytes of a block, read-only.

        Raises:
            BlockNotFoundError: the block is missing.
            CorruptBlockError: reads are verified, and the bytes do not match the CID.
        """
        ...

    def get_joined(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview:
        """The bytes of several blocks, joined in order; like `get`, with one copy.

        Args:
            cids: the blocks, at least one.
            sizes_bytes: the expected size of each block.

        Raises:
            CorruptBlockError: a block has another size.
        """
        ...

    def __contains__(self, cid: Cid) -> bool:
        """Whether the block is here, as far as this process knows; no round trip."""
        ...

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """The missing ones among the blocks, in their order; may cost round trips."""
        ...

    def put(self, blocks: Sequence[Block], root: Cid) -> None:
        """Store the blocks durably, all or none; `root` is one of them."""
        ...

    def follow(self, draft: Followable) -> None:
        """Called with a new draft that will usually be published to this store."""
        ...

    def expect(self, blocks: Sequence[Block]) -> None:
        """Called with blocks that will usually be put to this store soon; does not block."""
        ...

    def publish(self, draft: Followable, root: Cid) -> None:
        """Store the blocks of a finished draft durably, all or none."""
        ...

    def keep(self, cids: Iterable[Cid]) -> AbstractContextManager[bool]:
        """A context in which existing blocks are kept; yields False if one of `cids` is missing."""
        ...

    def near(self) -> AbstractContextManager[None]:
        """A context in which `get` on this thread raises WouldBlockError instead of fetching."""
        ...

    def refresh(self) -> bool:
        """Look for blocks from other processes; returns whether there may be new ones."""
        ...


@runtime_checkable
class CountedPacks(Protocol):
    """Blocks in packs that can be counted."""

    def packs(self) -> Mapping[str, int]:
        """The current packs by name, with their sizes in bytes."""
        ...


@runtime_checkable
class PlacedBlocks(BlockStore, Protocol):
    """Blocks in packs, whose locations are known."""

    def packs_of(self, cids: Sequence[Cid]) -> list[AbstractSet[str]]:
        """The names of the packs that have each of the blocks."""
        ...

    def common_pack(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> str | None:
        """The name of the pack in which the blocks are contiguous; None if they are not."""
        ...


@runtime_checkable
class PackedBlocks(PlacedBlocks, Protocol):
    """Blocks in packs on the repository's own storage, which `gc` and `repack` maintain."""

    def packs(self) -> dict[str, int]:
        """The current packs by name, with their sizes in bytes."""
        ...

    def is_scattered(self, packs: int) -> bool:
        """Whether there are enough packs that some should be merged; reads no file."""
        ...

    def rebuild_index(self) -> None:
        """Rebuild the index from the packs. O(blocks)."""
        ...

    def merge_index(self, *, everything: bool = False) -> None:
        """Merge index files: the small ones, or all into one."""
        ...


@runtime_checkable
class LocatedBlocks(BlockStore, Protocol):
    """Blocks in files or objects that other programs can read."""

    def locate(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> ByteRange | None:
        """The range of the blocks, at least one; None if they are not contiguous."""
        ...


@runtime_checkable
class PartialBlocks(Protocol):
    """Blocks that may be those of a partial clone, which fetches missing ones from its origin."""

    def is_partial(self) -> bool:
        """Whether they are."""
        ...

    def get_here(self, cid: Cid) -> memoryview:
        """Like `get`, but returns an empty directory in place of a missing block."""
        ...


class BoundedCache(Protocol):
    """A cache of remote blocks on this machine.

    Attributes:
        limit_bytes: its maximum size.
    """

    limit_bytes: int

    def size_bytes(self) -> int:
        """Its current size."""
        ...

    def clear(self) -> None:
        """Remove everything in it."""
        ...


@runtime_checkable
class CachedBlocks(Protocol):
    """Remote blocks, some of which are cached on this machine."""

    @property
    def cache(self) -> BoundedCache:
        """The cache."""
        ...


@runtime_checkable
class ServedBlocks(BlockStore, Protocol):
    """Blocks on a server, which also removes blocks that nothing references.

    A published draft is kept here, because nothing references the uploaded blocks yet.

    Attributes:
        pack_bytes: the size in bytes above which a session starts another draft.
    """

    pack_bytes: int

    def let_go(self, draft: Followable, root: Cid) -> None:
        """Take over a published draft after its commit."""
        ...

    def problems(
        self, cids: Sequence[Cid], *, read_all: bool
    ) -> Mapping[Cid, BlockNotFoundError | CorruptBlockError]:
        """The problems of blocks on the server, independent of any cache.

        Args:
            cids: the blocks.
            read_all: read and hash them, instead of only checking that they exist.
        """
        ...


@runtime_checkable
class Searchable(Protocol):
    """Remote blocks that are found through their parents, not by CID alone."""

    def search(self, cid: Cid) -> bool:
        """Search the trees of all branches and tags for a block; returns whether it was found.

        Costs the requests for those trees, unless they are cached on this machine.
        """
        ...
