"""Refs in MFS: each update of a branch or tag is a numbered directory, created once.

`refs/heads/NAME/000000042` is a UnixFS directory with `move.json` (the log entry) and `commit`, a
link to the new commit. `files/cp` creates a name only if it does not exist, so exactly one of many
writers gets the next number. MFS keeps everything that it links to, and therefore every commit that
a log names. docs/design/kubo.md shows the bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from versioned_zarr.backends.kubo.client import KuboClient, NoSuchPathError, PathTakenError
from versioned_zarr.backends.kubo.connectivity import make_whole
from versioned_zarr.backends.kubo.kubo_blocks import KuboBlocks
from versioned_zarr.backends.kubo.ref_staging import RefStaging
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.errors import (
    BlockNotFoundError,
    BranchMovedError,
    CorruptBlockError,
    CorruptRefError,
    StorageError,
    StorageFullError,
)
from versioned_zarr.history.log_refs import decode_entry, encode_entry, may_be_ref
from versioned_zarr.history.ref_names import check_ref_name, from_file_name, to_file_name
from versioned_zarr.history.refs import KINDS, RefEntry, rename_by_moves, times_left
from versioned_zarr.ipld import dag_pb, unixfs
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Storage

KEPT_MOVES = 1000
"""The maximum length of a ref's log; older moves are removed, but not within a day."""
KEPT_FOR = timedelta(days=1)
"""No move is removed earlier, so that no writer reuses a number and no reader misses a move."""
_LOOK_AGAIN_S = 60.0
_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.02


class _Seen(NamedTuple):
    """The last move of a ref that this process saw.

    Attributes:
        number: its number.
        cid: the CID of its directory.
        listed_s: when the moves of the ref were last listed, of `time.monotonic`.
    """

    number: int
    cid: str
    listed_s: float


class MfsRefs:
    """A `RefStore` under one MFS directory.

    Args:
        client: the node.
        root: the MFS directory, such as `/versioned-zarr/NAME`.
        blocks: stores and reads the directories of moves, and makes sure that the node has
            everything that they reach.
        storage: has locks that prevent futile races between processes of this machine.
    """

    def __init__(
        self,
        client: KuboClient,
        root: str,
        blocks: KuboBlocks,
        storage: Storage,
    ) -> None:
        self._client, self._root, self._blocks, self._storage = client, root, blocks, storage
        self._staging = RefStaging(client, root, blocks)
        self._last_seen: dict[str, _Seen] = {}

    def _folder(self, kind: str, name: str) -> str:
        return f"{self._root}/refs/{kind}/{to_file_name(name)}"

    def read(self, kind: str, name: str) -> RefEntry | None:
        """See `RefStore.read`; one request, if this process has read the ref in the last minute."""
        last = self._last(kind, name)
        return None if last is None or last.commit is None else last

    def _last(self, kind: str, name: str) -> RefEntry | None:
        seen = self._see(self._folder(kind, name))
        return None if seen is None else self._entry(seen.number, seen.cid, name)

    def _see(self, folder: str) -> _Seen | None:
        """The last move, which is recorded."""
        seen = self._look(folder)
        if seen is None:
            self._last_seen.pop(folder, None)
        else:
            self._last_seen[folder] = seen
        return seen

    def _look(self, folder: str) -> _Seen | None:
        """The last move: searched after the last known one, and occasionally among all.

        The repository may have been deleted and created again, with the same numbers of moves.
        """
        seen = self._last_seen.get(folder)
        if seen is None or time.monotonic() - seen.listed_s > _LOOK_AGAIN_S:
            numbers = self._numbers(folder)
            last = max(numbers, default=None)
            return None if last is None else _Seen(last, numbers[last], time.monotonic())
        while True:
            try:
                cid = self._client.stat(f"{folder}/{seen.number + 1:09}")
            except NoSuchPathError:
                return seen
            seen = _Seen(seen.number + 1, cid, seen.listed_s)

    def _numbers(self, folder: str) -> dict[int, str]:
        try:
            entries = self._client.list(folder)
        except NoSuchPathError:
            return {}
        return {int(entry.name): entry.cid for entry in entries if entry.name.isdecimal()}

    def _entry(self, number: int, cid: str, name: str) -> RefEntry:
        try:
            links = {link.name: link.cid for link in _links(self._blocks, from_text(cid))}
            entry = decode_entry(self._blocks.get_verified(links["move.json"]).tobytes(), name)
            if entry.number != number:
                raise ValueError(f"it was made as number {entry.number}, and stored as {number}")
        except (KeyError, ValueError, BlockNotFoundError) as error:
            raise CorruptRefError(
                f"log entry {cid} of {name!r} cannot be read: {error}; the entries with lower "
                "numbers "
                f"are the earlier positions of the ref: remove the damaged one from {self._root}",
                ref=name,
                where=f"refs: {name}",
            ) from error
        return entry

    def names(self, kind: str, *, deleted: bool = False) -> list[str]:
        """See `RefStore.names`; one request, and those of `read` for each ref."""
        try:
            entries = self._client.list(f"{self._root}/refs/{kind}")
        except NoSuchPathError:
            return []
        found = []
        for entry in entries:
            name = from_file_name(entry.name)
            with suppress(CorruptRefError):
                if may_be_ref(kind, name) and (deleted or self.read(kind, name) is not None):
                    found.append(name)
        return sorted(found)

    def broken(self, kind: str) -> dict[str, CorruptRefError]:
        """See `RefStore.broken`; costs what `names` does."""
        found = {}
        for name in self.names(kind, deleted=True):
            try:
                self.read(kind, name)
            except CorruptRefError as error:
                found[name] = error
        return found

    def rename(self, kind: str, old: str, new: str, why: str) -> None:
        """See `RefStore.rename`: two moves; if the node stops in between, both names exist."""
        rename_by_moves(self, kind, old, new, why)

    def remove(self, kind: str, name: str, why: str) -> None:
        """See `RefStore.remove`: a move to no commit after the last one."""
        folder = self._folder(kind, name)
        seen = self._see(folder)
        if seen is None:
            with suppress(NoSuchPathError):
                self._client.remove(folder)
        else:
            gone = RefEntry(seen.number + 1, None, datetime.now(UTC), why)
            self._make(folder, gone, seen.cid)
        self._last_seen.pop(folder, None)

    def settle(self, kind: str, name: str) -> None:
        """See `RefStore.settle`: the node keeps what it has acknowledged."""

    def swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None, why: str) -> RefEntry:
        """See `RefStore.swap`: reads, then creates the next number, which only one writer can."""
        with self._blocks.keep(()):
            folder = self._folder(kind, name)
            seen = self._see(folder)
            found = None if seen is None else self._entry(seen.number, seen.cid, name).commit
            if found != expect:
                raise _moved(name, expect, found)
            if new is not None:
                make_whole(self._blocks, new, expect, self._tips)
            number = 0 if seen is None else seen.number + 1
            entry = RefEntry(number, new, datetime.now(UTC), why)
            root = self._make(folder, entry, None if seen is None else seen.cid)
            if root is None:
                self._last_seen.pop(folder, None)
                last = self._last(kind, name)
                raise _moved(name, expect, None if last is None else last.commit)
            listed_s = time.monotonic() if seen is None else seen.listed_s
            self._last_seen[folder] = _Seen(number, to_text(root), listed_s)
        if number >= KEPT_MOVES and number % 64 == 0:
            self._prune(folder, number, name)
        return entry

    def _tips(self) -> Iterator[Cid]:
        """The commits of all refs, that of `main` first."""
        for kind in KINDS:
            names = self.names(kind)
            for name in sorted(names, key=lambda name: name != "main"):
                entry = self.read(kind, name)
                if entry is not None and entry.commit is not None:
                    yield entry.commit

    def _make(self, folder: str, entry: RefEntry, before: str | None) -> Cid | None:
        """Create a move; returns its directory, or None if another writer was first.

        It is staged first: no collection removes a DAG that MFS links to completely. So whenever
        the ref moves, and whoever reads it, everything that it reaches is there.

        Args:
            folder: the folder of the ref.
            entry: the move.
            before: the directory of the preceding move; None for the first.

        Raises:
            CollectedError: a collection removed blocks that could not be sent again.
        """
        blocks, root = self._encode(entry)
        self._blocks.put(blocks, root)
        try:
            staged = self._staging.hold(root, parents=before is None)
        except NoSuchPathError:
            if before is None or not self._is_at(from_text(before), folder, entry.number - 1):
                return None  # the ref does not exist any more
            staged = self._staging.hold(root, parents=True)
        try:
            has_moved = self._link(root, folder, entry.number, is_first=before is None)
        except StorageError as error:
            if not isinstance(error, StorageFullError):
                raise  # it may still be executed, and then needs the staged data
            self._staging.let_go(staged)
            raise
        if has_moved and before is not None:
            # The preceding move was removed, so there are later ones, and this number was already
            # used; or all were removed, and others were created.
            has_moved = self._is_at(from_text(before), folder, entry.number - 1)
            if not has_moved:
                self._client.remove(f"{folder}/{entry.number:09}")
        self._staging.let_go(staged)
        return root if has_moved else None

    def _link(self, root: Cid, folder: str, number: int, *, is_first: bool) -> bool:
        """Link a move under this number; returns whether this move has it, and not another."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._client.copy(to_text(root), f"{folder}/{number:09}", parents=is_first)
            except NoSuchPathError:  # the ref does not exist any more
                return False
            except PathTakenError:
                return self._is_at(root, folder, number)
            except StorageError as error:
                # The response may be lost after the move was made, or a proxy is busy. A retry does
                # no harm, because no two moves are equal.
                if self._is_at(root, folder, number):
                    return True
                if attempt == _ATTEMPTS or isinstance(error, StorageFullError):
                    raise
                time.sleep(_FIRST_PAUSE_S * 2**attempt)
            else:
                return True
        raise AssertionError

    def _is_at(self, root: Cid, folder: str, number: int) -> bool:
        try:
            return from_text(self._client.stat(f"{folder}/{number:09}")) == root
        except NoSuchPathError:
            return False

    def _encode(self, entry: RefEntry) -> tuple[list[Block], Cid]:
        """The blocks of a move, its directory last; their times make all moves different."""
        hash_function = self._blocks.hash
        text = encode_entry(entry)
        leaf = hash_function.raw(text)
        links = [Link("move.json", leaf, len(text))]
        if entry.commit is not None:
            links.insert(0, Link("commit", entry.commit, self._size(entry.commit)))
        data = unixfs.directory(links)
        root = hash_function.dag_pb(data)
        return [(leaf, text), (root, data)], root

    def _size(self, commit: Cid) -> int:
        """The cumulative size of a commit, as in links; 0 if unknown."""
        try:
            block = self._blocks.get(commit)
            return len(block) + sum(link.tsize for link in dag_pb.decode(block)[0])
        except (BlockNotFoundError, CorruptBlockError):
            return 0

    def _prune(self, folder: str, number: int, name: str) -> None:
        """Remove the oldest moves if the log is too long, but none younger than a day."""
        self._staging.forget(KEPT_FOR)
        numbers = self._numbers(folder)
        for old in sorted(numbers):
            if old > number - KEPT_MOVES:
                return
            if datetime.now(UTC) - self._entry(old, numbers[old], name).time < KEPT_FOR:
                return
            self._client.remove(f"{folder}/{old:09}")

    def history(self, kind: str, name: str, *, readable: bool = False) -> Iterator[RefEntry]:
        """See `RefStore.history`; one request for the list, and two for each unknown move."""
        numbers = self._numbers(self._folder(kind, name))
        for number in sorted(numbers, reverse=True):
            try:
                yield self._entry(number, numbers[number], name)
            except CorruptRefError:
                if not readable:
                    raise

    def forget(self, kind: str, name: str, before: datetime) -> None:
        """See `RefStore.forget`; moves are kept for a day in any case.

        Otherwise a delayed writer could reuse a number.
        """
        self._staging.forget(KEPT_FOR)
        folder = self._folder(kind, name)
        before = min(before, datetime.now(UTC) - KEPT_FOR)
        entries = list(self.history(kind, name))
        gone = [entry for entry, left in times_left(entries) if left is not None and left < before]
        # Oldest first: a writer that reuses a number then finds that the preceding move is gone.
        for entry in reversed(gone):
            self._client.remove(f"{folder}/{entry.number:09}")
        if entries and entries[0].commit is None and entries[0].time < before:
            self._client.remove(folder)
            self._last_seen.pop(folder, None)

    def lock(self, kind: str, name: str) -> AbstractContextManager[bool]:
        """See `RefStore.lock`; only affects processes of this machine."""
        return self._storage.lock(f"{kind}-{to_file_name(check_ref_name(name))}")


def _links(blocks: KuboBlocks, cid: Cid) -> list[Link]:
    return dag_pb.decode(blocks.get_verified(cid))[0]


def _moved(name: str, expect: Cid | None, found: Cid | None) -> BranchMovedError:
    def shown(commit: Cid | None) -> str:
        return "nothing" if commit is None else to_text(commit)

    return BranchMovedError(
        f"{name!r} is at {shown(found)}, not at {shown(expect)} as expected",
        branch=name,
        expected=None if expect is None else to_text(expect),
        found=None if found is None else to_text(found),
    )
