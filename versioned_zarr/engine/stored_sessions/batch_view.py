"""The batch view: the state of a stored session, as far as this process has read its batches.

Writers do not share one order. Each batch says which batches its writer had read. A write replaces
those that its writer knew. Two writes that did not know each other are rivals, in whatever order
they are applied; until a conflict is resolved, every process sees the one with the greater CID.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from versioned_zarr import process_identity
from versioned_zarr.engine.sessions.change_set import ChangeSet, IsKnown, PendingWrite
from versioned_zarr.engine.sessions.journal import JournalRecord, RecordKind
from versioned_zarr.engine.sessions.protocol import unnamed
from versioned_zarr.engine.stored_sessions.batch import Batch, SessionNote, covers
from versioned_zarr.engine.stored_sessions.session_log import BatchName
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.tree.lookup import Trees


class BatchView:
    """See the module. Not thread-safe: the session holds a lock.

    Args:
        trees: reads trees.
        base: the CID of the commit that the session is based on, as text.
        root: the tree of that commit.
        tree_of: returns the tree of a commit.

    Attributes:
        state: the writes of the session, over its base.
        taken: the number of the last batch of each writer that was applied; never changed, but
            replaced.
        committed: those that the base contains.
        notes: the number of the last note that was read.
        names: the batches that were applied and are not committed.
    """

    def __init__(self, trees: Trees, base: str, root: Cid, tree_of: Callable[[Cid], Cid]) -> None:
        self._tree_of = tree_of
        self.state = ChangeSet(trees, base, root)
        self.state.keeps_committed = True
        self.taken: Mapping[int, int] = {}
        self.committed: Mapping[int, int] = {}
        self.notes = 0
        self.names: set[BatchName] = set()
        self._clears: list[JournalRecord] = []
        self._writers: dict[int, tuple[str, int]] = {}
        self._marks: list[Mapping[int, int]] = [{}]

    def writer_name(self, writer: int) -> str:
        """The machine and the process of a writer."""
        host, process = self._writers.get(writer, ("", 0))
        return process_identity.shown(process, host) if host else unnamed(writer)

    def is_taken(self, name: BatchName) -> bool:
        """Whether a batch was applied, or the base contains it."""
        return name.number <= max(
            self.taken.get(name.writer, 0), self.committed.get(name.writer, 0)
        )

    @property
    def mark(self) -> int:
        """A number for what was applied until now; see `upto`."""
        if self._marks[-1] is not self.taken:
            self._marks.append(self.taken)
        return len(self._marks) - 1

    def upto(self, mark: int) -> Mapping[int, int]:
        """The number of the last batch of each writer that had been applied at a mark."""
        return self._marks[mark]

    def add_upto(self, upto: Mapping[int, int]) -> int:
        """The mark of some batches."""
        self._marks.append(upto)
        return len(self._marks) - 1

    def take_in(self, batches: Iterable[Batch]) -> None:
        """Apply batches of other writers; none whose writer had read one that is applied later."""
        for batch in _in_order(batches, self.taken, self.committed):
            self.apply(batch, is_own=False)

    def apply(self, batch: Batch, *, is_own: bool) -> None:
        """Apply a batch, unless the base contains it."""
        self._writers[batch.name.writer] = batch.host, batch.process
        if batch.name.number > self.committed.get(batch.name.writer, 0):
            self.names.add(batch.name)
            for record in batch.records:
                self._apply(record, batch, is_own=is_own)
        self.taken = {**self.taken, batch.name.writer: batch.name.number}

    def _apply(self, record: JournalRecord, batch: Batch, *, is_own: bool) -> None:
        is_known = _known_by(batch.seen) if record.seen else _nothing
        if record.kind is RecordKind.CLEAR:
            record = record._replace(position=batch.name.number)
            self._clears.append(record)
            self.state.clear(record, is_known, is_own=is_own)
            return
        before = self.state.entries.get(record.key)
        if before is not None and _loses_to(record, before, is_known):
            rival = PendingWrite(record, is_unseen=not is_own)
            rival.position = batch.name.number
            left = (
                old for old in before.rivals if old.writer != record.writer and not is_known(old)
            )
            before.rivals = (*left, rival)
            return
        pending = self.state.lay(record, is_known, is_own=is_own)
        pending.position = batch.name.number
        for clear in self._clears:
            if _is_below(record.key, clear.key) and clear.writer != record.writer:
                rival = PendingWrite(clear, is_unseen=False)
                if not is_known(rival):
                    pending.rivals = (*pending.rivals, rival)

    def add(self, note: SessionNote) -> None:
        """Apply a note."""
        if not note.is_made:
            mark = self.add_upto(note.upto)
            intent = JournalRecord(RecordKind.INTENT, "", 0, mark, cid=note.commit)
            self.state.intents.append(intent)
            return
        committed = {
            writer: max(note.upto.get(writer, 0), self.committed.get(writer, 0))
            for writer in {*note.upto, *self.committed}
        }
        self.committed = committed

        def contains(writer: int, number: int) -> bool:
            return number <= committed.get(writer, 0)

        self.names = {name for name in self.names if not contains(*name)}
        self._clears = [each for each in self._clears if not contains(each.writer, each.position)]
        intents = self.state.intents
        self.state.rebase(note.commit, self._tree_of(note.commit), contains)
        # Another process may have made its commit after this one, and before this note.
        self.state.intents = [intent for intent in intents if intent.cid != note.commit]


def _known_by(seen: Mapping[int, int]) -> IsKnown:
    return lambda old: old.position <= seen.get(old.writer, 0)


def _nothing(old: PendingWrite) -> bool:
    del old
    return False


def _loses_to(record: JournalRecord, before: PendingWrite, is_known: IsKnown) -> bool:
    """Whether a rival is the value that all processes see until the conflict is resolved."""
    return before.writer != record.writer and before.cid > record.cid and not is_known(before)


def _is_below(key: str, path: str) -> bool:
    return not path or key.startswith(f"{path}/")


def _in_order(
    batches: Iterable[Batch], taken: Mapping[int, int], committed: Mapping[int, int]
) -> Iterator[Batch]:
    """The batches, each after those that its writer had read."""
    waiting: dict[int, deque[Batch]] = {}
    for batch in sorted(batches, key=lambda each: each.name):
        waiting.setdefault(batch.name.writer, deque()).append(batch)
    done = {
        writer: max(taken.get(writer, 0), committed.get(writer, 0))
        for writer in {*taken, *committed}
    }
    while waiting:
        has_moved = False
        for writer, queue in list(waiting.items()):
            while queue and covers(
                done, {each: n for each, n in queue[0].seen.items() if each in waiting}
            ):
                batch = queue.popleft()
                done[writer] = batch.name.number
                has_moved = True
                yield batch
            if not queue:
                del waiting[writer]
        if not has_moved:  # a batch that others had read is gone
            for writer in list(waiting):
                yield from waiting.pop(writer)
