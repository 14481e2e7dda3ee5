"""The block store protocol: the interface between the engine and the storage of blocks.

`PackStore` stores blocks in packs on a `Storage`. The contract suite
`versioned_zarr.testing.BlockStoreContract` specifies each method in code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.protocol import Bytes, FilePart

Block: TypeAlias = tuple[Cid, Bytes]


class WouldBlockError(Exception):
    """A block would have to be fetched; the caller asked not to. Never leaves the package."""


class Publishable(Protocol):
    """A finished draft of a pack, to be taken over by the store."""

    def publish(self, path: str, root: Cid, *, durable: bool = True) -> None:
        """Make the draft a pack at `path`; `durable` as in `Storage.put`."""
        ...


class Follower(Protocol):
    """Who reads a draft while it is written."""

    def grown(self) -> None:
        """Called now and then, from any thread, when there is more to read; does not wait."""
        ...


class Followable(Publishable, Protocol):
    """A draft that a store may read while it is written, to be done sooner with it."""

    is_recovered: bool
    """Whether another process wrote it, so that nobody knows how much of it was stored."""
    follower: Follower | None
    """Who is told while it grows."""

    def sealed(self, root: Cid) -> Sequence[Bytes]:
        """The bytes of the pack that the draft becomes; the last part is its tail."""
        ...

    def finished(self, number: int = 0) -> Iterator[tuple[Cid, int, int]]:
        """The blocks that are written, without the first `number`: CIDs, first byte, and end."""
        ...

    def part(self, start: int, end: int) -> Bytes | FilePart:
        """Bytes of the draft; see `StagedPack.part`."""
        ...

    def read(self, start: int, end: int) -> memoryview:
        """Bytes of the draft."""
        ...


class ByteRange(NamedTuple):
    """Bytes in a file or an object.

    Attributes:
        url: where.
        offset: the first byte.
        size: how many bytes.
    """

    url: str
    offset: int
    size: int


class BlockStore(Protocol):
    """Blocks by CID. Every method may be called from many threads.

    Attributes:
        hash: names the blocks.
        is_remote: whether `get` may have to wait for a network.
    """

    hash: HashFunction
    is_remote: bool

    def get(self, cid: Cid) -> memoryview:
        """The bytes of a block, read-only.

        Raises:
            BlockNotFoundError: it is not here.
            CorruptBlockError: what is here does not hash to the CID, where reads are verified.
        """
        ...

    def get_joined(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview:
        """The bytes of several blocks, one behind the other; as `get`, with one copy.

        Args:
            cids: the blocks, at least one.
            sizes_bytes: how long each of them is told to be.

        Raises:
            CorruptBlockError: one of them is of another size.
        """
        ...

    def __contains__(self, cid: Cid) -> bool:
        """Whether the block is here, as far as this process has looked; no round trip."""
        ...

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """Those of the blocks that are not here, in their order; may cost a round trip or more."""
        ...

    def put(self, blocks: Sequence[Block], root: Cid) -> None:
        """Store the blocks durably, all of them or none; `root` is one of them."""
        ...

    def follow(self, draft: Followable) -> None:
        """Told of a draft that is begun and will be published here as a rule."""
        ...

    def expect(self, blocks: Sequence[Block]) -> None:
        """Told of blocks that will be put here as a rule, and soon; does not wait."""
        ...

    def publish(self, draft: Followable, root: Cid) -> None:
        """Store the blocks of a finished draft durably, all of them or none."""
        ...

    def keep(self, cids: Iterable[Cid]) -> AbstractContextManager[bool]:
        """While held, blocks that are here stay; gives False if one of `cids` is not here."""
        ...

    def near(self) -> AbstractContextManager[None]:
        """While held, `get` on this thread raises WouldBlockError rather than fetch a block."""
        ...

    def refresh(self) -> bool:
        """See what other processes have stored since; says whether there may be something."""
        ...


@runtime_checkable
class PackedBlocks(BlockStore, Protocol):
    """Blocks in packs on the repository's own storage, which `gc` and `repack` look after."""

    def packs(self) -> dict[str, int]:
        """The packs that are there now, by name, with their sizes in bytes."""
        ...

    def is_scattered(self, packs: int) -> bool:
        """Whether there are so many packs that some should be joined; looks at no file."""
        ...

    def rebuild_index(self) -> None:
        """Make the index anew from the packs. O(blocks)."""
        ...

    def merge_index(self, *, everything: bool = False) -> None:
        """Join the files of the index: the small ones, or all into one."""
        ...


@runtime_checkable
class LocatedBlocks(BlockStore, Protocol):
    """Blocks in files or objects that other programs can read."""

    def locate(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> ByteRange | None:
        """Where blocks lie one behind the other, at least one; None if they do not."""
        ...


@runtime_checkable
class PartialBlocks(Protocol):
    """Blocks of a partial clone, which fetches what is absent from elsewhere."""

    def get_here(self, cid: Cid) -> memoryview:
        """As `get`, with an empty directory, below which nothing is, for a block that is absent."""
        ...


class BoundedCache(Protocol):
    """What is kept on this machine of blocks that lie elsewhere.

    Attributes:
        limit_bytes: how many bytes it may have.
    """

    limit_bytes: int

    def size_bytes(self) -> int:
        """How many bytes it has."""
        ...

    def clear(self) -> None:
        """Remove all of it."""
        ...


@runtime_checkable
class CachedBlocks(Protocol):
    """Blocks elsewhere, of which some are kept in a cache on this machine."""

    @property
    def cache(self) -> BoundedCache:
        """The cache."""
        ...


@runtime_checkable
class ServedBlocks(BlockStore, Protocol):
    """Blocks that a server keeps, which also removes what nothing names.

    A draft that is published here stays where it is, as nothing names yet what was sent of it.

    Attributes:
        pack_bytes: the size in bytes from which on a session begins another draft.
    """

    pack_bytes: int

    def let_go(self, draft: Followable, root: Cid) -> None:
        """Take over a draft that was published, once it is committed."""
        ...

    def problems(
        self, cids: Sequence[Cid], *, read_all: bool
    ) -> Mapping[Cid, BlockNotFoundError | CorruptBlockError]:
        """What is wrong with blocks as the server has them, whatever a cache may hold.

        Args:
            cids: the blocks.
            read_all: read and hash them, rather than only ask whether they are there.
        """
        ...


@runtime_checkable
class Searchable(Protocol):
    """Blocks elsewhere that are found by what leads to them, and not by their CIDs alone."""

    def search(self, cid: Cid) -> bool:
        """Look through the trees of all branches and tags for a block; says whether it is there.

        Costs the requests that those trees cost, where this machine does not know them.
        """
        ...
