"""Storing the values of a session: which drafts become packs as they are, and what is copied."""

from __future__ import annotations

from versioned_zarr.blocks.pack import PackDraft
from versioned_zarr.blocks.store import Block
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.repository.journal import IN_STORE, draft_path
from versioned_zarr.repository.overlay import Pending
from versioned_zarr.repository.stores import Stores
from versioned_zarr.repository.working import Working

INLINE_LIMIT_BYTES = 256 << 10
"""Up to this much, a commit's values go into the pack of the commit itself."""


def publish_values(stores: Stores, working: Working) -> list[Block]:
    """Store the values that the session wrote; gives those that are better kept in the commit.

    A draft that is mostly live becomes a pack as it is. What little there is otherwise, and what
    lies in drafts of processes that live and go on writing, is copied.
    """
    stores.blocks.refresh()
    live: dict[int, dict[Cid, Pending]] = {}
    for entry in working.state.entries.values():
        # An attempt that failed half-way may have stored some of them.
        if not entry.is_gone and entry.draft != IN_STORE and entry.cid not in stores.blocks:
            live.setdefault(entry.draft, {})[entry.cid] = entry
    sizes = {
        number: sum(pending.tsize for pending in values.values()) for number, values in live.items()
    }
    drafts = working.take_drafts()
    inline: list[Block] = []
    if sum(sizes.values()) <= INLINE_LIMIT_BYTES:
        for values in live.values():
            for pending in values.values():
                inline += working.drafts.blocks_of(pending)
        live = {}
    copied: list[Pending] = []
    for number, values in live.items():
        draft = drafts.get(number)
        if draft is not None and draft.is_sound and sizes[number] * 2 >= draft.end:
            stores.blocks.publish(draft, next(iter(values)))
            draft.draft.close()
            del drafts[number]
        else:
            copied += values.values()
    if copied:
        _copy(stores, working, copied)
    working.drafts.give_back(drafts)
    return inline


def _copy(stores: Stores, working: Working, values: list[Pending]) -> None:
    name = draft_path(working.head.id, IN_STORE)
    copy = PackDraft(stores.storage.open_draft(name), stores.hash)
    for pending in values:
        blocks = list(working.drafts.blocks_of(pending))
        copy.write(copy.reserve(blocks), blocks)
    stores.blocks.publish(copy, values[0].cid)
    copy.draft.close()
