"""The update of a directory: the blocks of its next version, as one block or as a HAMT.

The form depends only on the names and links: one block of at most 256 KiB, or else a HAMT. So a
change can convert one form to the other. Unchanged shards are never read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from versioned_zarr.ipld import hamt, unixfs
from versioned_zarr.ipld.cid import CID_SIZE, Cid, is_raw
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.hamt import SLOTS, Entry, Put, Shard
from versioned_zarr.ipld.unixfs import HAMT_THRESHOLD, link_size
from versioned_zarr.tree.directory import Directory, ShardedDirectory
from versioned_zarr.tree.lookup import Trees

Change: TypeAlias = tuple[str, Cid | None, int]
"""A name in a directory with its new CID and tsize; without a CID, the name is removed."""

_SMALLEST_LINK: Final = link_size(("x", Cid(bytes(CID_SIZE)), 0))
_MOST_LINKS: Final = HAMT_THRESHOLD // _SMALLEST_LINK


def create(trees: Trees, entries: list[Entry], put: Put) -> Link | None:
    """Store a directory of `entries`, in any order; return the link to it, or None if empty."""
    if not entries:
        return None
    if len(entries) <= _MOST_LINKS:
        entries.sort()
        block = unixfs.directory(entries)
        if len(block) <= HAMT_THRESHOLD:
            cid = trees.hash_function.dag_pb(block)
            put(cid, block)
            return Link("", cid, len(block) + sum([entry[2] for entry in entries]))
    return hamt.build(entries, trees.hash_function, put)


def update(
    trees: Trees,
    base: Directory,
    changes: list[Change],
    put: Put,
    check: Callable[[Link], None],
) -> Link | None:
    """Apply `changes`, at most one per name, to `base` and store it; return the link to it.

    Args:
        trees: reads `base`.
        base: the directory to change; it is not modified.
        changes: the new links of its names.
        put: receives the blocks that the base does not have.
        check: receives each link of the base that a change removes, before any `put`.

    Returns:
        None, if no name is left.
    """
    if isinstance(base, ShardedDirectory):
        return _ShardedUpdate(trees, base, check).run(changes, put)
    links = {link.name: link for link in base}
    _apply(links, changes, check)
    return create(trees, list(links.values()), all_but(base.cid, put))


def _apply(
    links: dict[str, Link], changes: Iterable[Change], check: Callable[[Link], None]
) -> None:
    for name, cid, tsize in changes:
        old = links.get(name)
        if old is not None:
            check(old)
        if cid is not None:
            links[name] = Link(name, cid, tsize)
        elif old is not None:
            del links[name]


def all_but(known: Cid | None, put: Put) -> Put:
    """Return a `put` that ignores a block that already exists."""

    def put_others(cid: Cid, block: bytes) -> None:
        if cid != known:
            put(cid, block)

    return put_others


class _ShardedUpdate:
    """One update of a HAMT; reads and creates only the shards above the changed names."""

    def __init__(self, trees: Trees, base: ShardedDirectory, check: Callable[[Link], None]) -> None:
        self._trees = trees
        self._base = base
        self._check = check
        self._growth = 0
        self._made: list[tuple[Cid, bytes]] = []

    def run(self, changes: list[Change], put: Put) -> Link | None:
        hashed = [(hamt.hash_name(change[0]), change) for change in changes]
        base = self._base
        root = self._shard(base.shard, Link("", base.cid, base.tsize), hashed, 0)
        if self._growth < 0 and not self._is_larger(HAMT_THRESHOLD - self._growth):
            links = {link.name: link for link in base}
            _apply(links, changes, lambda _: None)
            return create(self._trees, list(links.values()), put)
        for cid, block in self._made:
            put(cid, block)
        return root

    def _shard(
        self, shard: Shard, link: Link, changes: list[tuple[bytes, Change]], depth: int
    ) -> Link | None:
        """Return the link to an updated shard; a single name replaces its shard."""
        by_slot: dict[str, list[tuple[bytes, Change]]] = {}
        for change in changes:
            by_slot.setdefault(SLOTS[change[0][depth]], []).append(change)
        new = shard.copy()
        for slot, slot_changes in by_slot.items():
            old = shard.get(slot)
            if (
                old is not None
                and len(slot_changes) == 1
                and self._replace(new, old, *slot_changes)
            ):
                continue
            result = self._slot(old, slot_changes, depth)
            if result is not None:
                new[slot] = Link(slot + result.name, result.cid, result.tsize)
            else:
                new.pop(slot, None)
        if new == shard:
            return link
        if len(new) <= 1 and depth > 0:
            for only in new.values():
                if not hamt.is_shard(only):
                    return hamt.named(only)
        if not new:
            return None
        made, block = hamt.encode_shard(new, self._trees.hash_function)
        self._made.append((made.cid, block))
        return made

    def _replace(self, shard: Shard, old: Link, change: tuple[bytes, Change]) -> bool:
        """Set a name that has its own slot in `shard`; return whether it has.

        A fast path for the most common change; `_slot` would have the same result.
        """
        _, (name, cid, tsize) = change
        if cid is None or old.name[2:] != name:
            return False
        if not is_raw(old.cid):
            self._check(hamt.named(old))
        new = Link(old.name, cid, tsize)
        if tsize.bit_length() != old.tsize.bit_length():
            self._growth += link_size(hamt.named(new)) - link_size(hamt.named(old))
        shard[old.name[:2]] = new
        return True

    def _slot(
        self, link: Link | None, changes: list[tuple[bytes, Change]], depth: int
    ) -> Link | None:
        if link is not None and hamt.is_shard(link):
            shard = self._trees.shard(link.cid, depth + 1)
            return self._shard(shard, Link("", link.cid, link.tsize), changes, depth + 1)
        links: dict[str, Link] = {}
        if link is not None:
            old = hamt.named(link)
            links[old.name] = old
            self._growth -= link_size(old)
        _apply(links, (change for _, change in changes), self._check)
        self._growth += sum(map(link_size, links.values()))
        if len(links) > 1:
            put = self._put
            return hamt.build(list(links.values()), self._trees.hash_function, put, depth + 1)
        return next(iter(links.values()), None)

    def _put(self, cid: Cid, block: bytes) -> None:
        self._made.append((cid, block))

    def _is_larger(self, size_bytes: int) -> bool:
        """Return whether the base would exceed this size as one block, reading few shards.

        Until a shard is read, it counts as two of the smallest links, because every shard has at
        least two names below it.
        """
        least = 2 * _SMALLEST_LINK
        size = len(unixfs.EMPTY_DIRECTORY) + least
        unread = deque([(self._base.cid, 0)])
        while unread and size <= size_bytes:
            cid, depth = unread.popleft()
            size -= least
            for link in self._trees.shard(cid, depth).values():
                if hamt.is_shard(link):
                    unread.append((link.cid, depth + 1))
                    size += least
                else:
                    size += link_size(hamt.named(link))
        return size > size_bytes
