"""Seals the staged packs of a session: publishes them as packs, or copies what is live."""

from __future__ import annotations

from contextlib import suppress

from versioned_zarr.blocks.file_reader import get_verified, leaves_of
from versioned_zarr.blocks.packs.pack import PackWriter
from versioned_zarr.blocks.protocol import Block, BlockStore
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.sessions.change_set import PendingWrite
from versioned_zarr.engine.sessions.journal import IN_STORE, draft_path
from versioned_zarr.engine.sessions.local_session import LocalSession
from versioned_zarr.engine.sessions.pack_staging import new_number
from versioned_zarr.errors import BlockNotFoundError, CollectedError, CorruptBlockError
from versioned_zarr.ipld.cid import Cid, to_text

INLINE_LIMIT_BYTES = 256 << 10
"""The maximum total size of values that go into the pack of the commit itself."""


def publish_values(stores: RepositoryContext, working: LocalSession) -> list[Block]:
    """Store the values of the session; returns those that should go into the commit's pack.

    A draft that is mostly live becomes a pack as it is. Smaller amounts of data, and values in
    drafts of processes that are still writing, are copied. Values of other processes are verified
    first.

    Raises:
        CorruptBlockError: a value of another process is damaged; nothing was stored.
        CollectedError: blocks are gone that were stored when a value was written.
    """
    stores.blocks.refresh()
    entries = {key: it for key, it in working.state.entries.items() if not it.is_gone}
    there = _stored(stores, list(entries.values()))
    live: dict[int, dict[Cid, PendingWrite]] = {}
    inline: list[Block] = []
    working.close_drafts()
    waiting = {key: it for key, it in entries.items() if it.cid not in there}
    inline += _lost_leaves(working, waiting)
    _check_sound(working, waiting)
    for entry in entries.values():
        if entry.cid not in there:
            if entry.draft == IN_STORE:
                inline += _still_near(stores, entry.cid)
            else:
                live.setdefault(entry.draft, {})[entry.cid] = entry
    sizes = {
        number: sum(it.stored_bytes for it in values.values()) for number, values in live.items()
    }
    if sum(sizes.values()) <= INLINE_LIMIT_BYTES:
        for values in live.values():
            for pending in values.values():
                inline += working.drafts.blocks_of(pending)
        return inline
    copied: list[PendingWrite] = []
    for number, values in live.items():
        draft = working.drafts.taken(number)
        if draft is not None and draft.is_sound and sizes[number] * 2 >= draft.end:
            working.drafts.publish(number, next(iter(values)))
        else:
            copied += values.values()
    if copied:
        _copy(stores, working, copied)
    return inline


def _lost_leaves(working: LocalSession, entries: dict[str, PendingWrite]) -> list[Block]:
    """Leaves that values reuse and that are no longer stored, but can still be read here.

    Raises:
        CollectedError: some cannot be read here either; nothing was stored.
    """
    blocks, url = working.blocks, working.storage.url
    reused = {cid for pending in entries.values() for cid in pending.reused.cids()}
    if not reused:
        return []
    with blocks.keep(reused) as is_kept:
        lost = [] if is_kept else blocks.missing([*reused])
    try:
        return [(cid, get_verified(blocks, cid, url)) for cid in lost]
    except (BlockNotFoundError, CorruptBlockError) as error:
        lacking = [key for key, it in entries.items() if not working.drafts.has_leaves(it)]
        session = working.head.id
        raise CollectedError(
            f"{len(lacking)} values of session {session} share leaves with values that were "
            f"removed from {url!r} since: {_shown(lacking)}; nothing was committed: write them "
            f"again, or drop them and keep the rest with repo.resume({session!r})",
            where=url,
        ) from error


def _shown(keys: list[str]) -> str:
    return ", ".join(map(repr, keys[:8])) + (", …" if len(keys) > 8 else "")


def _check_sound(working: LocalSession, entries: dict[str, PendingWrite]) -> None:
    """Make sure that the values of other processes in drafts match the journal."""
    damaged = [
        key
        for key, pending in entries.items()
        if pending.draft != IN_STORE and not working.drafts.is_sound(pending)
    ]
    if not damaged:
        return
    session, first = working.head.id, entries[damaged[0]]
    raise CorruptBlockError(
        f"{len(damaged)} values of session {session} were written by another process and are "
        f"damaged: {_shown(damaged)}; nothing was committed: write them again, or "
        f"drop them and keep the rest with repo.resume({session!r})",
        cid=to_text(first.cid),
        where=draft_path(session, first.draft),
    )


def _stored(stores: RepositoryContext, pending: list[PendingWrite]) -> set[Cid]:
    """The values that are already stored: equal values, or values of a failed attempt.

    Asks a server for all their blocks, because it may have collected blocks that a cache has.
    """
    blocks = stores.blocks
    if not blocks.is_remote:
        return {it.cid for it in pending if it.draft == IN_STORE or _is_complete(blocks, it.cid)}
    near = {entry.cid for entry in pending if entry.cid in blocks}
    parts: dict[Cid, list[Cid]] = {}
    for cid in near | {entry.cid for entry in pending if entry.draft == IN_STORE}:
        with suppress(BlockNotFoundError):
            parts[cid] = [cid, *leaves_of(blocks.get, cid)]
    lacking = set(blocks.missing([each for cids in parts.values() for each in cids]))
    return {cid for cid, cids in parts.items() if lacking.isdisjoint(cids)}


def _is_complete(blocks: BlockStore, value: Cid) -> bool:
    """Whether all blocks of a value are stored; `gc` may have removed some that nothing used."""
    if value not in blocks:
        return False
    try:
        return all(leaf in blocks for leaf in leaves_of(blocks.get, value))
    except BlockNotFoundError:
        return False


def _still_near(stores: RepositoryContext, value: Cid) -> list[Block]:
    """The local blocks of a value that the server has collected since the value was written.

    Raises:
        CollectedError: they are not on this machine either.
    """
    try:
        wanted = [value, *leaves_of(stores.blocks.get, value)]
        return [(cid, stores.blocks.get(cid)) for cid in wanted]
    except BlockNotFoundError as error:
        text = to_text(value)
        raise CollectedError(
            f"value {text} existed at {stores.storage.url!r} when the session wrote it, so it was "
            "not sent; it has been garbage-collected there since: write it again",
            where=stores.storage.url,
        ) from error


def _copy(stores: RepositoryContext, working: LocalSession, values: list[PendingWrite]) -> None:
    number = new_number()
    name = draft_path(working.head.id, number)
    copy = PackWriter(stores.storage.open_draft(name), stores.hash)
    working.drafts.add(number, copy)
    try:
        for pending in values:
            blocks = working.drafts.blocks_of(pending)
            copy.write(copy.reserve(blocks), blocks)
        working.drafts.publish(number, values[0].cid)
    except BaseException:
        stores.storage.delete(name)
        working.drafts.published(number)
        raise
