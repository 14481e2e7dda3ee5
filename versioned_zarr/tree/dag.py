"""DAG traversal: the blocks of a DAG, of a path or of part of a value, depth-first.

These are the blocks that a CAR file must contain. It reads through a function that returns blocks,
stores nothing, and accepts data from other tools (see `dag_nodes`). An identity CID contains its
block, so that block is never included. Rules: `dag-scope` and `entity-bytes` of the IPFS Trustless
Gateway specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple, TypeAlias

from versioned_zarr.errors import CorruptBlockError, KeyNotFoundError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import hamt
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.identity import inline
from versioned_zarr.ipld.unixfs import VALUES, UnixFsNode, UnixFsType
from versioned_zarr.tree.dag_nodes import (
    DIRECTORIES,
    Get,
    corrupt,
    decode_node,
    links_of,
    read_block,
    read_node,
    sized_parts,
    slot_digits,
)

Block: TypeAlias = tuple[Cid, bytes | memoryview]


class Scope(Enum):
    """How much of the object at the end of a path to include: a `dag-scope`.

    `BLOCK` is only its root block; `ENTITY` is what is needed to read a whole value, or to list a
    directory without its members; `ALL` is everything below.
    """

    BLOCK = "block"
    ENTITY = "entity"
    ALL = "all"


class Span(NamedTuple):
    """A range of bytes as in `entity-bytes`: both ends are inclusive.

    Attributes:
        first: the first byte; if negative, counted from the end.
        last: the last byte; if negative, counted from the end (-1 is the last); None for the last.
    """

    first: int
    last: int | None

    def within(self, size: int) -> tuple[int, int]:
        """Return the range's start and stop in a value of `size` bytes; equal if it is empty."""
        start = max(0, size + self.first) if self.first < 0 else self.first
        last = size - 1 if self.last is None else self.last
        stop = (size + last if last < 0 else last) + 1
        stop = min(stop, size)
        return (start, stop) if start < stop else (0, 0)


class ResolvedPath(NamedTuple):
    """The path that `resolve` followed through a DAG.

    Attributes:
        blocks: the blocks read on the way, in order, without that of the last part.
        roots: the starting CID, and the CID for each part of the path.
        tsize: the cumulative size of the object at the end, as in its link; None for a path without
            parts.
    """

    blocks: tuple[Cid, ...]
    roots: tuple[Cid, ...]
    tsize: int | None

    @property
    def end(self) -> Cid:
        """The CID of the object at the end of the path."""
        return self.roots[-1]


def resolve(get: Get, root: Cid, path: Sequence[str]) -> ResolvedPath:
    """Follow the names of `path` through directories, from `root` on. O(blocks on the way).

    Raises:
        KeyNotFoundError: the path does not exist.
        BlockNotFoundError: a block on the way is missing.
        CorruptBlockError: a block on the way is not UnixFS.
    """
    blocks: list[Cid] = []
    roots = [root]
    tsize: int | None = None
    for number, part in enumerate(path):
        link = _find(get, roots[-1], part, blocks)
        if link is None:
            shown = "/".join(path[: number + 1])
            raise KeyNotFoundError(f"nothing at {shown!r} in {cids.to_text(root)}", key=shown)
        roots.append(link.cid)
        tsize = link.tsize
    return ResolvedPath(tuple(blocks), tuple(roots), tsize)


def blocks_of_path(
    get: Get,
    way: ResolvedPath,
    scope: Scope = Scope.ALL,
    span: Span | None = None,
    *,
    again: bool = False,
) -> Iterator[Block]:
    """Yield the blocks that prove a path, then those of the object at its end; depth first.

    Reads each block only when it is its turn, so memory does not grow with the bytes; unless
    `again` is set, it takes about 120 bytes for each yielded block.

    Args:
        get: returns the bytes of a block.
        way: the path, from `resolve`.
        scope: how much of the object at its end to include.
        span: of a value, only what is needed to read these bytes, including its root; implies
            `Scope.ENTITY`, which is also used for anything but a value.
        again: yield a block every time it is reached, not just the first.

    Raises:
        BlockNotFoundError: a block is missing.
        CorruptBlockError: a block cannot be read.
    """
    met = None if again else _Met()
    yield from _once(get, way.blocks, met)
    if scope is Scope.BLOCK and span is None:
        yield from _once(get, [way.end], met)
    elif scope is Scope.ALL and span is None:
        yield from _all_below(get, way.end, met)
    else:
        yield from _entity(get, way.end, span, met)


def blocks_below(get: Get, roots: Iterable[Cid], skip: Callable[[Cid], bool]) -> Iterator[Block]:
    """Yield every block of the DAGs under `roots` once, depth first, parents first.

    Args:
        get: returns the bytes of a block.
        roots: the roots, in order.
        skip: whether to leave out a block with everything below it, for example because the other
            side has it completely.
    """
    met = _Met()
    for root in roots:
        yield from _all_below(get, root, met, skip)


class _Met:
    """The blocks that were yielded, and those of them with everything below."""

    def __init__(self) -> None:
        self.yielded: set[Cid] = set()
        self.whole: set[Cid] = set()

    def is_new(self, cid: Cid) -> bool:
        """Return whether a block was not yielded yet, and record it."""
        known = len(self.yielded)
        self.yielded.add(cid)
        return len(self.yielded) > known


def _once(get: Get, wanted: Iterable[Cid], met: _Met | None) -> Iterator[Block]:
    for cid in wanted:
        if inline(cid) is None and (met is None or met.is_new(cid)):
            yield cid, get(cid)


def _all_below(
    get: Get, root: Cid, met: _Met | None, skip: Callable[[Cid], bool] = lambda cid: False
) -> Iterator[Block]:
    """Yield all blocks of a DAG, including dag-pb blocks that are not UnixFS."""
    stack = [root]
    while stack:
        cid = stack.pop()
        if met is not None:
            known = met.yielded if cids.is_raw(cid) else met.whole
            if cid in known or skip(cid):
                continue
            if not cids.is_raw(cid):
                met.whole.add(cid)  # everything below it comes before anything else on the stack
        block = read_block(get, cid)
        if inline(cid) is None and (met is None or met.is_new(cid)):
            yield cid, block
        if not cids.is_raw(cid):
            stack += [link.cid for link in reversed(links_of(cid, block))]


def _entity(get: Get, root: Cid, span: Span | None, met: _Met | None) -> Iterator[Block]:
    """Yield the blocks of a value, or those of a range of it, or those that list a directory."""
    try:
        node = None if cids.is_raw(root) else read_node(get, root)
    except CorruptBlockError:
        node = None  # not UnixFS: only its own block
    if node is not None and node.kind in VALUES and span is None:
        yield from _all_below(get, root, met)
        return
    yield from _once(get, [root], met)
    if node is None:
        return
    if node.kind in VALUES and span is not None:
        yield from _span(get, node, *span.within(node.size), met)
    elif node.kind is UnixFsType.HAMT:
        yield from _shards(get, node, met)


def _span(get: Get, root: UnixFsNode, start: int, stop: int, met: _Met | None) -> Iterator[Block]:
    """Yield the blocks below the root of a value that contain the bytes from `start` to `stop`."""
    stack = [(*part, size) for part, size in sized_parts(root, start, stop)]
    stack.reverse()
    while stack:
        cid, start, stop, size = stack.pop()
        is_whole = start == 0 and stop == size
        if met is not None and cid in met.whole:
            continue
        block = read_block(get, cid)
        if inline(cid) is None and (met is None or met.is_new(cid)):
            yield cid, block
        if met is not None and is_whole:
            met.whole.add(cid)
        if not cids.is_raw(cid):
            below = [
                (*part, size) for part, size in sized_parts(decode_node(cid, block), start, stop)
            ]
            stack += reversed(below)


def _shards(get: Get, root: UnixFsNode, met: _Met | None) -> Iterator[Block]:
    """Yield the shards below the root of a HAMT, without the targets of its names."""
    stack = _shard_links(root)
    while stack:
        cid = stack.pop()
        if met is not None:
            if cid in met.whole:
                continue
            met.whole.add(cid)
        block = read_block(get, cid)
        if inline(cid) is None and (met is None or met.is_new(cid)):
            yield cid, block
        stack += _shard_links(decode_node(cid, block))


def _shard_links(node: UnixFsNode) -> list[Cid]:
    """The shards that a shard links to, last one first."""
    if node.kind is not UnixFsType.HAMT:
        raise CorruptBlockError("a HAMT links to a block as a shard that is not one")
    digits = slot_digits(node)
    return [link.cid for link in reversed(node.links) if len(link.name) == digits]


def _find(get: Get, cid: Cid, name: str, blocks: list[Cid]) -> Link | None:
    """Return the link called `name` in a directory, and record the blocks that were read for it."""
    if cids.is_raw(cid):
        return None
    node = read_node(get, cid)
    if node.kind not in DIRECTORIES:
        return None
    digest = _name_bits(name) if node.kind is UnixFsType.HAMT else 0
    used = 0
    while True:
        if inline(cid) is None:
            blocks.append(cid)
        if node.kind is not UnixFsType.HAMT:
            return next((link for link in node.links if link.name == name), None)
        digits = slot_digits(node)
        width = node.fanout.bit_length() - 1
        used += width
        if used > _HASH_BITS:
            return None
        slot = f"{digest >> (_HASH_BITS - used) & (node.fanout - 1):0{digits}X}"
        link = next((link for link in node.links if link.name[:digits] == slot), None)
        if link is None:
            return None
        if len(link.name) > digits:
            found = link.name[digits:] == name
            return Link(name, link.cid, link.tsize) if found else None
        cid = link.cid
        node = read_node(get, cid)
        if node.kind is not UnixFsType.HAMT:
            raise corrupt(cid, "it is linked as a HAMT shard but is not one")


_HASH_BITS = 64


def _name_bits(name: str) -> int:
    try:
        return int.from_bytes(hamt.hash_name(name), "big")
    except UnicodeEncodeError:
        return 0  # a lone surrogate, which no name has; the comparison of names detects it
