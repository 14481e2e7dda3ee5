"""The pack collector: garbage collection on an object store, beside writers on other machines.

There are no locks, and no clock decides what is safe. Its steps are those of the model checker in
tests/models: list the packs, mark, copy what is in use, condemn, fence, mark again, delete, and
remove the list. `CommitCheck` is the other half of the protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from versioned_zarr.backends.objectstore.condemned_packs import CondemnedPacks
from versioned_zarr.backends.objectstore.object_blocks import ObjectBlocks
from versioned_zarr.backends.objectstore.record_refs import RecordRefs
from versioned_zarr.backends.objectstore.sessions.object_session_log import ObjectSessionLog
from versioned_zarr.backends.objectstore.sessions.session_packs import document_in
from versioned_zarr.blocks.packs.pack import pack_of
from versioned_zarr.blocks.packs.pack_format import PackBlock, blocks_of, read_tail
from versioned_zarr.blocks.packs.pack_registry import INDEX, pack_path
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.maintenance.collected import Collected, Marks, WholeValue
from versioned_zarr.engine.progress import OnProgress, Steps
from versioned_zarr.errors import CorruptError, VersionedZarrError
from versioned_zarr.history.refs import KINDS
from versioned_zarr.ipld import cid as cids
from versioned_zarr.storage.conditional_store import ConditionalStore
from versioned_zarr.storage.object_store import Stored

_AT_ONCE: Final = 16
_PACK_BYTES: Final = 32 << 20
_SMALL_BYTES: Final = 32 << 20
_READ_BYTES: Final = 8 << 20


class _Content(NamedTuple):
    """The blocks of a pack that is to be deleted.

    Attributes:
        used: the used ones, which are copied.
        unused: the others.
        document: the block that says what a session wrote, if it is the pack of one; it is no
            reason to delete a pack.
    """

    used: list[PackBlock]
    unused: list[PackBlock]
    document: PackBlock | None = None


@dataclass
class _Written:
    """The packs that were written.

    Attributes:
        packs: how many.
        size_bytes: their size.
        seen: the digests of the blocks in them.
        gone: the packs that another gc deleted before they were copied.
    """

    packs: int = 0
    size_bytes: int = 0
    seen: set[bytes] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)


class PackCollector:
    """See the module, and `Collector`.

    Args:
        storage: the objects.
        blocks: the blocks.
        condemned: the lists of condemned packs.
        refs: the branches and tags.
        sessions: the sessions in the store.
    """

    def __init__(
        self,
        storage: ConditionalStore,
        blocks: ObjectBlocks,
        condemned: CondemnedPacks,
        refs: RecordRefs,
        sessions: ObjectSessionLog,
    ) -> None:
        self._storage, self._blocks = storage, blocks
        self._catalogue, self._registry = blocks.catalogue, blocks.registry
        self._condemned, self._refs, self._hash = condemned, refs, blocks.hash
        self._sessions = sessions

    def collect(
        self, marks: Marks, *, dry_run: bool, progress: OnProgress | None = None
    ) -> Collected:
        """See `Collector.collect`.

        Costs a request for each 1000 packs, and one for each pack that has unused blocks; what is
        in use in such packs is read and written once.
        """
        packs = self._list_packs()
        steps = Steps(sum(stored.size for stored in packs.values()), progress)
        if not dry_run:
            self._refs.settle_new()
        live, problems = marks.mark(everything=False)
        if problems:  # what must be kept is unknown
            steps.add(sum(stored.size for stored in packs.values()))
            return Collected(problems=problems)
        before = self._condemned.read()
        dying = self._dying(packs, live, marks, frozenset[str]().union(*before.values()))
        unused = [block for content in dying.values() for block in content.unused]
        found = Collected(
            removed_blocks=len({block.cid for block in unused}),
            removed_bytes=sum(block.end - block.start for block in unused),
            removed_packs=len(dying),
        )
        kept = packs if dry_run else packs.keys() - dying.keys()
        steps.add(sum(packs[name].size for name in kept))
        if dry_run:
            return found
        written = self._replace(dying, packs, marks, steps)
        self._remove_lists(before)
        self._sessions.remove_ended()
        return replace(found, written_packs=written.packs)

    def repack(self, whole: Sequence[WholeValue], progress: OnProgress | None = None) -> Collected:
        """See `Collector.repack`: combines packs of less than 32 MiB."""
        packs = self._list_packs()
        small = {name for name, stored in packs.items() if stored.size < _SMALL_BYTES}
        opened = {pack for value in whole if value.pack is None for pack in self._packs_of(value)}
        dying = self._contents((small if len(small) > 1 else set()) | (opened & packs.keys()))
        if not opened and len(dying) <= _fewest_packs(dying):
            dying = {}
        moved = [value for value in whole if dying and self._packs_of(value) <= dying.keys()]
        sizes = sum(stored.size for stored in packs.values())
        steps = Steps(sizes + sum(sum(value.sizes) for value in moved), progress)
        steps.add(sum(packs[name].size for name in packs.keys() - dying.keys()))
        if not dying:
            return Collected()
        self._check_refs()
        before = sum(packs[name].size for name in dying)
        written = self._replace(dying, packs, None, steps, moved)
        return Collected(
            removed_bytes=max(0, before - written.size_bytes),
            removed_packs=len(dying),
            written_packs=written.packs,
        )

    # The steps

    def _check_refs(self) -> None:
        """Check that every ref can be fenced, before anything is copied.

        Raises:
            CorruptRefError: the newest record of a ref is damaged.
        """
        for kind in KINDS:
            for error in self._refs.broken(kind).values():
                raise error

    def _list_packs(self) -> dict[str, Stored]:
        """The packs in the store. Those that writers add from now on are not collected."""
        self._catalogue.scan()
        packs = self._catalogue.present()
        self._registry.refresh()
        held = self._sessions.held(packs)
        return {name: stored for name, stored in packs.items() if name not in held}

    def _replace(
        self,
        dying: Mapping[str, _Content],
        packs: Mapping[str, Stored],
        marks: Marks | None,
        steps: Steps,
        moved: Iterable[WholeValue] = (),
    ) -> _Written:
        """Delete packs behind fences, after their used blocks were copied."""
        if dying:
            self._condemned.check_permission()  # before a copy is written that nothing replaces
        old_indexes = [stored.path for stored in self._storage.list(INDEX)]
        written = self._copy(dying, packs, steps, moved)
        dying = {name: content for name, content in dying.items() if name not in written.gone}
        if not dying:
            if marks is not None:
                marks.forget()
            return written
        name = self._condemn(dying)
        try:
            self._refs.fence()
            doomed = self._marked_again(dying, marks)
        except BaseException:
            with suppress(VersionedZarrError):  # the next gc deletes what the list names
                self._condemned.remove(name)  # nothing was deleted yet
            raise
        name = self._spare(name, dying, doomed)
        self._delete([pack_path(pack) for pack in doomed])
        current = {f"{INDEX}/{each}.idx" for each, _ in self._registry.known.merged}
        self._delete([path for path in old_indexes if path not in current])
        self._condemned.remove(name)
        self._catalogue.scan()  # finds what the second mark spared
        self._registry.refresh()
        return written

    def _condemn(self, dying: Collection[str]) -> str:
        """Write the list of condemned packs, and an index of the others for readers."""
        for pack in dying:
            self._catalogue.forget(pack_path(pack))
        self._registry.merge(everything=True)
        return self._condemned.add(dying)

    def _spare(self, name: str, dying: Collection[str], doomed: Collection[str]) -> str:
        """Replace the list if it names packs that are kept, so that writers may use these again."""
        if len(doomed) == len(dying):
            return name
        shorter = self._condemned.add(doomed)
        self._condemned.remove(name)
        return shorter

    def _marked_again(self, dying: Mapping[str, _Content], marks: Marks | None) -> list[str]:
        """The packs of which nothing came into use before the fences."""
        if marks is None:  # every block was copied
            return list(dying)
        marks.forget()
        live, problems = marks.mark(everything=True)
        if problems:
            return []
        return [
            pack
            for pack, content in dying.items()
            if not any(block.cid[-32:] in live for block in content.unused)
        ]

    def _delete(self, paths: Iterable[str]) -> None:
        with ThreadPoolExecutor(_AT_ONCE, "vz-gc") as pool:
            list(pool.map(self._storage.delete, paths))

    def _remove_lists(self, lists: Mapping[str, frozenset[str]]) -> None:
        """Remove the lists that others left, of which no pack exists any more."""
        present = self._catalogue.present()
        for name, packs in lists.items():
            if packs.isdisjoint(present):
                self._condemned.remove(name)

    # What is where

    def _packs_of(self, value: WholeValue) -> set[str]:
        """The packs that have leaves of a value."""
        return set().union(*self._blocks.packs_of(value.leaves))

    def _dying(
        self,
        packs: Mapping[str, Stored],
        live: Collection[bytes],
        marks: Marks,
        left_over: Collection[str],
    ) -> dict[str, _Content]:
        """The packs to delete: those with unused blocks, and those that a dead gc condemned."""
        young = marks.cutoff.timestamp() if marks.cutoff is not None else None
        names = [
            name
            for name, stored in packs.items()
            if name in left_over or young is None or stored.modified_s < young
        ]
        suspects = self._suspects(names, live) | (left_over & packs.keys())
        found = {}
        for name, content in self._contents(suspects).items():
            used = [block for block in content.used if block.cid[-32:] in live]
            unused = [block for block in content.used if block.cid[-32:] not in live]
            is_used = used and unused == [content.document]
            if (unused and not is_used) or name in left_over:
                found[name] = _Content(used, unused)
        return found

    def _suspects(self, names: Collection[str], live: Collection[bytes]) -> set[str]:
        """The packs that have unused blocks by the index, or that it does not cover."""
        wanted = set(names)
        marked = np.frombuffer(b"".join(live), "S32")
        covered: set[str] = set()
        found: set[str] = set()
        for run in self._registry.known.runs:
            covered.update(run.packs)
            is_unused = ~np.isin(run.digests().view("S32"), marked)
            numbers = np.unique(np.minimum(run.numbers[is_unused], len(run.packs)))
            found.update(run.packs[number] for number in numbers if number < len(run.packs))
        return wanted & (found | (wanted - covered))

    def _contents(self, names: Iterable[str]) -> dict[str, _Content]:
        """The blocks of packs by their own tails; without the packs whose tails are damaged."""

        def read(name: str) -> _Content | None:
            try:
                tail = read_tail(self._storage, pack_path(name), self._hash.code)
            except (CorruptError, FileNotFoundError):
                return None
            blocks = blocks_of(tail.entries, self._hash.code)
            return _Content(blocks, [], document_in(blocks, tail.root))

        names = list(names)
        with ThreadPoolExecutor(_AT_ONCE, "vz-gc") as pool:
            contents = zip(names, pool.map(read, names), strict=True)
            return {name: content for name, content in contents if content is not None}

    # Copying

    def _copy(
        self,
        dying: Mapping[str, _Content],
        packs: Mapping[str, Stored],
        steps: Steps,
        moved: Iterable[WholeValue],
    ) -> _Written:
        """Copy the used blocks of packs into new ones, nodes separate from values.

        The leaves of the values that are moved become contiguous.

        Raises:
            CorruptBlockError: a block is damaged.
        """
        written = _Written()
        batches: dict[bool, list[Block]] = {True: [], False: []}
        sizes = {True: 0, False: 0}
        for value in moved:
            leaves = [(cid, self._blocks.get_verified(cid)) for cid in value.leaves]
            batches[True] += leaves
            written.seen.update(cid[-32:] for cid in value.leaves)
            sizes[True] += sum(value.sizes)
            if sizes[True] >= _PACK_BYTES:
                self._put(batches[True], written)
                batches[True], sizes[True] = [], 0
            steps.add(sum(value.sizes))
        for name, content in sorted(dying.items()):
            try:
                for block, data in self._blocks_in(name, content.used):
                    if block.cid[-32:] in written.seen:
                        continue
                    written.seen.add(block.cid[-32:])
                    kind = cids.is_raw(block.cid)
                    batches[kind].append((block.cid, data))
                    sizes[kind] += len(data)
                    if sizes[kind] >= _PACK_BYTES:
                        self._put(batches[kind], written)
                        batches[kind], sizes[kind] = [], 0
            except FileNotFoundError:
                written.gone.add(name)
            steps.add(packs[name].size)
        for batch in batches.values():
            self._put(batch, written)
        return written

    def _blocks_in(
        self, pack: str, blocks: list[PackBlock]
    ) -> Iterator[tuple[PackBlock, memoryview]]:
        """Blocks of a pack with their bytes, verified; one request for each 8 MiB of neighbors."""
        path = pack_path(pack)
        for group in _contiguous(blocks):
            data = self._storage.read(path, group[0].start, group[-1].end)
            for block in group:
                part = data[block.start - group[0].start : block.end - group[0].start]
                cids.check(block.cid, part, f"{path} of {self._storage.url}")
                yield block, part

    def _put(self, batch: list[Block], written: _Written) -> None:
        if batch:
            parts = pack_of(batch, batch[0][0], self._hash)
            self._registry.learn(self._catalogue.put_pack(parts))
            written.packs += 1
            written.size_bytes += sum(map(len, parts))


def _fewest_packs(contents: Mapping[str, _Content]) -> int:
    """How many packs the blocks of some packs can be combined into."""
    sizes = {True: 0, False: 0}
    for content in contents.values():
        for block in content.used:
            sizes[cids.is_raw(block.cid)] += block.end - block.start
    return sum(-(-size // _PACK_BYTES) for size in sizes.values())


def _contiguous(blocks: list[PackBlock]) -> Iterator[list[PackBlock]]:
    """Groups of blocks one behind the other, of up to 8 MiB unless one is longer."""
    group: list[PackBlock] = []
    for block in blocks:
        if group and (block.start != group[-1].end or block.end - group[0].start > _READ_BYTES):
            yield group
            group = []
        group.append(block)
    if group:
        yield group
