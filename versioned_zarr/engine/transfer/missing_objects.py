"""Missing objects: the blocks of a DAG that an older DAG lacks, by walking both.

It reads through a function that returns blocks, and stores nothing. The cost is proportional to the
difference: a link that the older node at the same position also has is not followed, whether in a
directory, a shard of a HAMT, or a value of many leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeAlias

from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.identity import inline
from versioned_zarr.ipld.unixfs import UnixFsNode
from versioned_zarr.tree.dag_nodes import DIRECTORIES, decode_node

Get: TypeAlias = Callable[[Cid], bytes | memoryview]

_AHEAD = 32


class MissingBlock(NamedTuple):
    """A block that the older DAG does not have.

    Attributes:
        cid: its CID.
        data: its bytes if it is a node; None for a leaf, which is not read yet.
        size_bytes: its size; for a leaf, the size in the link to it.
        is_value: whether this is the last block of a value.
    """

    cid: Cid
    data: bytes | memoryview | None
    size_bytes: int
    is_value: bool


class _Pair(NamedTuple):
    """A link, and what the older DAGs have at the same position."""

    link: Link
    older: tuple[Cid, ...]


@dataclass
class _Frame:
    """A node whose children are being walked."""

    cid: Cid
    block: bytes | memoryview
    is_value: bool
    is_directory: bool
    pairs: Iterator[_Pair]

    def found(self) -> MissingBlock:
        return MissingBlock(self.cid, self.block, len(self.block), self.is_value)


@dataclass
class MissingObjects:
    """Walks DAGs, each beside an older one. Not thread-safe.

    Attributes:
        get: returns blocks of the new and the older DAGs.
        complete: nodes that the other side has completely; grows as DAGs are walked.
        pool: reads ahead, if reading takes a round trip; otherwise None.
        parents_first: whether a node comes before or after everything below it.
    """

    get: Get
    complete: set[Cid] = field(default_factory=set)
    pool: Executor | None = None
    parents_first: bool = False
    _ahead: dict[Cid, bytes | memoryview] = field(default_factory=dict)

    def blocks(self, root: Cid, older: Iterable[Cid] = ()) -> Iterator[MissingBlock]:
        """Yield the new blocks under `root`.

        A node is yielded once in the lifetime of this walk, a leaf wherever a new node links to it.
        Keeps in memory the nodes above the current block, and the CIDs of all yielded nodes.

        Args:
            root: the root of the new DAG.
            older: the complete older DAGs at the same position.

        Raises:
            BlockNotFoundError: a node is missing.
            CorruptBlockError: a node cannot be read.
        """
        older = tuple(older)
        if root in self.complete or root in older:
            return
        if cids.is_raw(root):
            yield MissingBlock(root, None, 0, is_value=True)
            return
        pair: _Pair | None = _Pair(Link("", root, 0), older)
        is_named = False
        stack: list[_Frame] = []
        while stack or pair is not None:
            if pair is not None:
                frame = self._open(pair, is_named=is_named)
                stack.append(frame)
                if self.parents_first:
                    yield frame.found()
                pair = None
            frame = stack[-1]
            for each in frame.pairs:
                link = each.link
                if cids.is_raw(link.cid):
                    yield MissingBlock(link.cid, None, link.tsize, frame.is_directory)
                elif link.cid not in self.complete:
                    pair, is_named = each, frame.is_directory
                    break
            else:
                stack.pop()
                self.complete.add(frame.cid)
                if not self.parents_first:
                    yield frame.found()

    def _open(self, pair: _Pair, *, is_named: bool) -> _Frame:
        cid = pair.link.cid
        block = self._ahead.pop(cid, None)
        if block is None:
            block = self.get(cid)
        node = decode_node(cid, block)
        before = [
            decode_node(older, self.get(older)).links
            for older in pair.older
            if not cids.is_raw(older)
        ]
        is_directory = node.kind in DIRECTORIES
        is_value = is_named and not is_directory
        return _Frame(cid, block, is_value, is_directory, self._pairs(node, before))

    def _pairs(self, node: UnixFsNode, before: list[list[Link]]) -> Iterator[_Pair]:
        """The links that no older node has, each with what they have at its position."""
        known = {link.cid for links in before for link in links}
        is_directory = node.kind in DIRECTORIES
        places: list[dict[str | int, Cid]] = [
            # The links in a value have no names.
            {link.name if is_directory else at: link.cid for at, link in enumerate(links)}
            for links in before
        ]
        wanted = (
            _Pair(
                link,
                tuple(
                    place[at]
                    for place in places
                    if (at := link.name if is_directory else number) in place
                ),
            )
            for number, link in enumerate(node.links)
            if link.cid not in known and link.cid not in self.complete and inline(link.cid) is None
        )
        return wanted if self.pool is None else self._read_ahead(wanted, self.pool)

    def _read_ahead(self, pairs: Iterator[_Pair], pool: Executor) -> Iterator[_Pair]:
        while some := list(islice(pairs, _AHEAD)):
            nodes = [cid for pair in some if not cids.is_raw(cid := pair.link.cid)]
            if len(nodes) > 1:
                self._ahead.update(zip(nodes, pool.map(self.get, nodes), strict=True))
            for pair in some:
                yield pair
                self._ahead.pop(pair.link.cid, None)
