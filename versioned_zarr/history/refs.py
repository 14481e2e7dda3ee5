"""Branches and tags: names that move by compare-and-swap, each with the log of its moves.

`LogRefs` keeps a ref as its own log: the last line is where it stands, the lines above are where
it stood. There is nothing else that could disagree. docs/design/refs.md shows the bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from versioned_zarr.errors import AlreadyExistsError, BranchMovedError, CorruptRefError
from versioned_zarr.history.commit import format_time, parse_time
from versioned_zarr.history.names import check_ref_name, from_file_name, to_file_name
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.storage import Log, Storage

HEADS, TAGS, REMOTES = "heads", "tags", "remotes"
KINDS = (HEADS, TAGS, REMOTES)
TAKEN_BACK = "taken back"
"""How the log begins to say of a move that it undoes the one before, which came to nothing."""
_TAIL_BYTES = 4096
_CRC_SIZE = 9  # a space and eight hexadecimal digits


@dataclass(frozen=True)
class RefEntry:
    """One move of a ref.

    Attributes:
        number: how many moves were before it.
        commit: where it went; None if it was deleted.
        time: when, UTC.
        why: what moved it, as `commit: message`.
    """

    number: int
    commit: Cid | None
    time: datetime
    why: str


class RefStore(Protocol):
    """Where branches (`heads`), tags, and what was seen of `remotes` live."""

    def read(self, kind: str, name: str) -> RefEntry | None:
        """Where a ref stands; None if it does not exist (now)."""
        ...

    def names(self, kind: str, *, deleted: bool = False) -> list[str]:
        """The names of all refs of a kind, sorted; with `deleted`, also of those that were."""
        ...

    def swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None, why: str) -> RefEntry:
        """Move a ref from where it is expected to stand; None stands for: it does not exist.

        Durable when it returns. Of many at once, one wins.

        Raises:
            BranchMovedError: it stands elsewhere; nothing was changed.
        """
        ...

    def history(self, kind: str, name: str) -> Iterator[RefEntry]:
        """The moves of a ref, the newest first, also of one that was deleted."""
        ...

    def forget(self, kind: str, name: str, before: datetime) -> None:
        """Drop moves that were undone by a later move made before this time."""
        ...

    def lock(self, kind: str, name: str) -> AbstractContextManager[bool]:
        """Keep others from moving a ref, where the place can; `swap` is safe without it."""
        ...


def went_to(history: Iterable[RefEntry], commit: Cid) -> bool:
    """Whether a ref went to a commit, and that move was not taken back.

    Args:
        history: the moves of the ref, the newest first.
        commit: the commit.
    """
    is_taken_back = False
    for entry in history:
        if entry.commit == commit and not is_taken_back:
            return True
        is_taken_back = entry.why.startswith(TAKEN_BACK)
    return False


def create_or_explain(refs: RefStore, kind: str, name: str, commit: Cid, why: str) -> RefEntry:
    """Make a ref that must not exist.

    Raises:
        AlreadyExistsError: it does.
    """
    try:
        return refs.swap(kind, name, None, commit, why)
    except BranchMovedError as error:
        what = "branch" if kind == HEADS else "tag"
        raise AlreadyExistsError(f"{what} {name!r} exists already", name=name) from error


class LogRefs:
    """Refs as logs on a `Storage` that has locks and logs."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, kind: str, name: str) -> RefEntry | None:
        """See `RefStore.read`; one small read whatever the length of the log."""
        last = self._last(kind, name)
        return None if last is None or last.commit is None else last

    def _last(self, kind: str, name: str) -> RefEntry | None:
        try:
            log = self._storage.open_log(_path(kind, name))
        except FileNotFoundError:
            return None
        try:
            return self._last_of(log, name)
        finally:
            log.close()

    def _last_of(self, log: Log, name: str) -> RefEntry | None:
        end = log.end()
        size = _TAIL_BYTES
        while True:
            start = max(0, end - size)
            lines = _whole_lines(log.read(start, end), name)
            # The first line is whole only if the text before it was read as well.
            if len(lines) > 1 or start == 0:
                return decode_entry(lines[-1], name) if lines else None
            size *= 8

    def names(self, kind: str, *, deleted: bool = False) -> list[str]:
        """See `RefStore.names`; one small read for each ref."""
        found = []
        for stored in self._storage.list(f"refs/{kind}"):
            name = from_file_name(stored.path.rpartition("/")[2].removesuffix(".log"))
            if deleted or self.read(kind, name) is not None:
                found.append(name)
        return sorted(found)

    def swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None, why: str) -> RefEntry:
        """See `RefStore.swap`: lock, look, append, sync."""
        path = _path(kind, name)
        with self._storage.lock("refs"):
            last = self._last(kind, name)
            found = None if last is None else last.commit
            if found != expect:
                raise BranchMovedError(
                    f"{name!r} is at {_shown(found)}, not at {_shown(expect)} as expected",
                    branch=name,
                    expected=_text(expect),
                    found=_text(found),
                )
            number = 0 if last is None else last.number + 1
            entry = RefEntry(number, new, datetime.now(UTC), why)
            log = self._storage.open_log(path, create=True)
            try:
                self._append(log, path, encode_entry(entry), name)
            finally:
                log.close()
        return entry

    def _append(self, log: Log, path: str, line: bytes, name: str) -> None:
        end = log.end()
        if end and log.read(end - 1, end) != b"\n":
            # Whoever wrote last was cut off in the middle of a line that nobody was told about.
            lines = _whole_lines(log.read(0, end), name)
            self._storage.put(path, [b"".join(old + b"\n" for old in lines) + line])
            return
        log.append(line)
        log.sync()

    def history(self, kind: str, name: str) -> Iterator[RefEntry]:
        """See `RefStore.history`; reads the whole log."""
        try:
            text = bytes(self._storage.read(_path(kind, name)))
        except FileNotFoundError:
            return
        for line in reversed(_whole_lines(text, name)):
            yield decode_entry(line, name)

    def forget(self, kind: str, name: str, before: datetime) -> None:
        """See `RefStore.forget`."""
        with self._storage.lock("refs"):
            entries = list(self.history(kind, name))
            kept = [
                entry
                for newer, entry in zip([None, *entries], entries, strict=False)
                if newer is None or newer.time >= before
            ]
            if kept and kept[0].commit is None and kept[0].time < before:
                self._storage.delete(_path(kind, name))
            elif len(kept) < len(entries):
                lines = [encode_entry(entry) for entry in reversed(kept)]
                self._storage.put(_path(kind, name), lines)

    def lock(self, kind: str, name: str) -> AbstractContextManager[bool]:
        """See `RefStore.lock`."""
        return self._storage.lock(f"{kind}-{to_file_name(check_ref_name(name))}")


def _path(kind: str, name: str) -> str:
    return f"refs/{kind}/{to_file_name(name)}.log"


def _text(commit: Cid | None) -> str | None:
    return None if commit is None else cids.to_text(commit)


def _shown(commit: Cid | None) -> str:
    return "nothing" if commit is None else cids.to_text(commit)


def encode_entry(entry: RefEntry) -> bytes:
    """A move as a line of text: JSON, its checksum, a line feed."""
    document = {
        "commit": _text(entry.commit),
        "number": entry.number,
        "time": format_time(entry.time),
        "why": entry.why,
    }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    return b"%s %08x\n" % (text, zlib.crc32(text))


def _whole_lines(text: bytes, name: str) -> list[bytes]:
    """The lines that end in a line feed; what follows the last one was never acknowledged."""
    lines = text.split(b"\n")
    torn = lines.pop()
    if torn and _is_whole(torn[:-1]):
        raise _damaged(torn, name)
    return lines


def _is_whole(line: bytes) -> bool:
    text, checksum = line[:-_CRC_SIZE], line[-_CRC_SIZE:]
    return checksum == b" %08x" % zlib.crc32(text)


def decode_entry(line: bytes, name: str) -> RefEntry:
    """The move that a line tells of, with or without its line feed.

    Raises:
        CorruptRefError: the line is damaged.
    """
    line = line.removesuffix(b"\n")
    if not _is_whole(line):
        raise _damaged(line, name)
    document = json.loads(line[:-_CRC_SIZE])
    commit = document["commit"]
    return RefEntry(
        number=document["number"],
        commit=None if commit is None else cids.from_text(commit),
        time=parse_time(document["time"]),
        why=document["why"],
    )


def _damaged(line: bytes, name: str) -> CorruptRefError:
    return CorruptRefError(
        f"a line of the log of {name!r} is damaged: {line[:60]!r}; "
        "the lines above it are where the ref stood before: mend or remove the damaged one",
        ref=name,
        where=f"refs: {name}",
    )
