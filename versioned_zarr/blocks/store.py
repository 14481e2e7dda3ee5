"""What the engine asks of a place for blocks, whoever keeps them.

`PackedStore` keeps them in packs on a `Storage`. The contract suite
`versioned_zarr.testing.BlockStoreContract` says in code what each method promises.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage import Bytes

Block: TypeAlias = tuple[Cid, Bytes]


class Publishable(Protocol):
    """A finished draft of a pack, to be taken over by the store."""

    def publish(self, path: str, root: Cid) -> None:
        """Make the draft a durable pack at `path`."""
        ...


class BlockStore(Protocol):
    """Blocks by CID. Every method may be called from many threads."""

    hash: HashFunction

    def get(self, cid: Cid) -> memoryview:
        """The bytes of a block, read-only.

        Raises:
            BlockNotFoundError: it is not here.
            CorruptBlockError: what is here does not hash to the CID, where reads are verified.
        """
        ...

    def get_joined(self, cids: Sequence[Cid], size_bytes: int) -> memoryview:
        """The bytes of several blocks, one behind the other; as `get`, with one copy.

        Args:
            cids: the blocks.
            size_bytes: how long they are together.
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

    def publish(self, draft: Publishable, root: Cid) -> None:
        """Store the blocks of a finished draft durably, all of them or none."""
        ...

    def keep(self, cids: Iterable[Cid]) -> AbstractContextManager[bool]:
        """While held, blocks that are here stay; gives False if one of `cids` is not here."""
        ...

    def refresh(self) -> bool:
        """See what other processes have stored since; says whether there may be something."""
        ...
