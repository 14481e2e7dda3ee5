"""Log refs: each ref is a log on a `Storage`, and its last line is its current commit.

The lines above are its earlier commits. There is no other file that could contradict the log.
docs/design/refs.md shows the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime

from versioned_zarr.errors import (
    AlreadyExistsError,
    BranchMovedError,
    CorruptRefError,
    OutcomeUnknownError,
    ReadOnlyError,
    RefNotFoundError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.history.commit_object import format_time, parse_time
from versioned_zarr.history.ref_names import (
    check_ref_name,
    from_file_name,
    is_plain_file_name,
    is_ref_name,
    to_file_name,
    to_file_path,
)
from versioned_zarr.history.refs import (
    REMOTES,
    RefEntry,
    times_left,
)
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.storage.checked_line import checked_line, text_in
from versioned_zarr.storage.protocol import Storage, Stored

_TAIL_BYTES = 4096
_DELETED = b'{"commit":null,'
"""The beginning of the line of a deletion."""
_CRC_SIZE = 9  # a space and eight hexadecimal digits


class LogRefs:
    """Refs as logs on a `Storage` with locks and append-only logs."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._unsettled: set[str] = set()
        """The logs for which a sync has failed, so that their state on the disk is unknown."""

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
            end = log.end()
            return _last_of(end, log.read, name)
        finally:
            log.close()

    def names(self, kind: str, *, deleted: bool = False) -> list[str]:
        """See `RefStore.names`; one small read for each ref."""
        found = []
        for stored, name in self._logs(kind):
            with suppress(CorruptRefError, FileNotFoundError):
                if deleted or self._stands(stored, name):
                    found.append(name)
        return sorted(found)

    def broken(self, kind: str) -> dict[str, CorruptRefError]:
        """See `RefStore.broken`; one small read for each ref."""
        found = {}
        for stored, name in self._logs(kind):
            try:
                self._stands(stored, name)
            except CorruptRefError as error:
                found[name] = error
            except FileNotFoundError:
                continue
        return found

    def _logs(self, kind: str) -> Iterator[tuple[Stored, str]]:
        """The logs of a kind with the names of their refs; other files are ignored."""
        start = len(f"refs/{kind}/")
        for stored in self._storage.list(f"refs/{kind}"):
            text, ending = stored.path[start:-4], stored.path[-4:]
            if is_plain_file_name(text) and ending == ".log":
                yield stored, text
                continue
            name = from_file_name(text)
            if _path(kind, name) == stored.path and may_be_ref(kind, name):
                yield stored, name

    def _stands(self, stored: Stored, name: str) -> bool:
        """Whether a ref exists now; parses only the beginning of its last line."""
        tail = bytes(self._storage.read(stored.path, max(0, stored.size - _TAIL_BYTES)))
        lines = _whole_lines(tail, name)
        if len(lines) < 2 and stored.size > _TAIL_BYTES:
            lines = _whole_lines(bytes(self._storage.read(stored.path)), name)
        if lines and not _is_whole(lines[-1]):
            raise _damaged(lines[-1], name)
        return bool(lines) and not lines[-1].startswith(_DELETED)

    def swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None, why: str) -> RefEntry:
        """See `RefStore.swap`: lock, compare, append, sync."""
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
            return self._add(kind, name, last, new, why)

    def _add(
        self, kind: str, name: str, last: RefEntry | None, new: Cid | None, why: str
    ) -> RefEntry:
        """Append the next entry; the caller holds the lock."""
        entry = _next(last, new, why)
        path, line = _path(kind, name), encode_entry(entry)
        log = self._storage.open_log(path, create=True)
        try:
            end = log.end()
            if path in self._unsettled or (end and log.read(end - 1, end) != b"\n"):
                # The previous writer may have been interrupted in the middle of a line, which was
                # never acknowledged, or its line may not be durable yet.
                lines = _whole_lines(log.read(0, end), name)
                self._storage.put(path, [b"".join(old + b"\n" for old in lines) + line])
                self._unsettled.discard(path)
                return entry
            log.append(line)
            self._unsettled.add(path)
            try:
                log.sync()
            except (StorageError, ReadOnlyError) as error:
                raise self._unknown(kind, name, new, error) from error
            self._unsettled.discard(path)
        finally:
            log.close()
        return entry

    def _unknown(
        self, kind: str, name: str, new: Cid | None, error: VersionedZarrError
    ) -> OutcomeUnknownError:
        url, what = self._storage.url, f"{kind}/{name}"
        where = "deleted" if new is None else f"moved to {_shown(new)}"
        return OutcomeUnknownError(
            f"{what!r} of {url!r} may have been {where}: the disk did not confirm it ({error}). "
            "No earlier commit is lost. Make sure that the disk works, then "
            f"check repo.reflog or 'vz log {name}'; committing the session again makes it durable",
            where=_path(kind, name),
            ref=name,
            commit=_text(new),
        )

    def rename(self, kind: str, old: str, new: str, why: str) -> None:
        """See `RefStore.rename`: one rename of the log."""
        with self._storage.lock("refs"):
            last = self._last(kind, old)
            if last is None or last.commit is None:
                raise RefNotFoundError(f"{old!r} not found in {self._storage.url!r}", ref=old)
            there = self._last(kind, new)
            if there is not None and there.commit is not None:
                raise AlreadyExistsError(f"{new!r} already exists", name=new)
            if there is None:
                self._storage.move(_path(kind, old), _path(kind, new))
                self._add(kind, new, last, last.commit, why)
            else:  # a deleted ref, whose log is kept; an interrupt here leaves both names
                self._add(kind, new, there, last.commit, why)
                self._add(kind, old, last, None, why)

    def remove(self, kind: str, name: str, why: str) -> None:
        """See `RefStore.remove`: the readable part of a damaged log is kept."""
        path = _path(kind, name)
        with self._storage.lock("refs"):
            entries = list(self.history(kind, name, readable=True))
            last = entries[0] if entries else None
            lines = [encode_entry(entry) for entry in reversed(entries)]
            self._storage.put(path, [*lines, encode_entry(_next(last, None, why))])

    def settle(self, kind: str, name: str) -> None:
        """See `RefStore.settle`."""
        path = _path(kind, name)
        with self._storage.lock("refs"):
            if path in self._unsettled:
                self._storage.put(path, [bytes(self._storage.read(path))])
                self._unsettled.discard(path)
                return
            log = self._storage.open_log(path)
            try:
                log.sync()
            finally:
                log.close()

    def history(self, kind: str, name: str, *, readable: bool = False) -> Iterator[RefEntry]:
        """See `RefStore.history`; reads the whole log, and decodes entries on demand."""
        try:
            text = bytes(self._storage.read(_path(kind, name)))
        except FileNotFoundError:
            return
        for line in reversed(text.split(b"\n")[:-1] if readable else _whole_lines(text, name)):
            try:
                yield decode_entry(line, name)
            except CorruptRefError:
                if not readable:
                    raise

    def forget(self, kind: str, name: str, before: datetime) -> None:
        """See `RefStore.forget`."""
        path = _path(kind, name)
        with self._storage.lock("refs"):
            entries = list(self.history(kind, name))
            moves = list(times_left(entries))
            kept = [entry for entry, left_at in moves if left_at is None or left_at >= before]
            if len(kept) == 1 and kept[0].commit is None and kept[0].time < before:
                self._storage.delete(path, durable=True)
            elif len(kept) < len(entries):
                self._storage.put(path, [encode_entry(entry) for entry in reversed(kept)])

    def lock(self, kind: str, name: str) -> AbstractContextManager[bool]:
        """See `RefStore.lock`."""
        encoded = to_file_name(check_ref_name(name))
        return self._storage.lock(f"{kind}-{encoded}")


def _next(last: RefEntry | None, commit: Cid | None, why: str) -> RefEntry:
    """The entry after the last one."""
    now = datetime.now(UTC)
    if last is None:
        return RefEntry(0, commit, now, why)
    return RefEntry(last.number + 1, commit, max(now, last.time), why)


def _last_of(end: int, read: Callable[[int, int], bytes], name: str) -> RefEntry | None:
    """The last entry of a log of `end` bytes."""
    size = _TAIL_BYTES
    while True:
        start = max(0, end - size)
        lines = _whole_lines(read(start, end), name)
        # The first line is complete only if the preceding text was read, too.
        if len(lines) > 1 or start == 0:
            return decode_entry(lines[-1], name) if lines else None
        size *= 8


def _path(kind: str, name: str) -> str:
    return f"refs/{to_file_path(kind, name)}.log"


def may_be_ref(kind: str, name: str) -> bool:
    """Whether a ref of this kind and name may exist."""
    if kind != REMOTES:
        return is_ref_name(name)
    remote, _, branch = name.partition("/")
    return is_ref_name(remote) and is_ref_name(branch)


def _text(commit: Cid | None) -> str | None:
    return None if commit is None else cids.to_text(commit)


def _shown(commit: Cid | None) -> str:
    return "nothing" if commit is None else cids.to_text(commit)


def encode_entry(entry: RefEntry) -> bytes:
    """An entry as a line of text: JSON, its checksum, a line feed."""
    document = {
        "commit": _text(entry.commit),
        "number": entry.number,
        "time": format_time(entry.time),
        "why": entry.why,
    }
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    return checked_line(text)


def _whole_lines(text: bytes, name: str) -> list[bytes]:
    """The lines that end in a line feed; anything after the last one was never acknowledged."""
    lines = text.split(b"\n")
    torn = lines.pop()
    if torn and _is_whole(torn[:-1]):
        raise _damaged(torn, name)
    return lines


def _is_whole(line: bytes) -> bool:
    return text_in(line + b"\n") is not None


def decode_entry(line: bytes, name: str) -> RefEntry:
    """Decode a line, with or without its line feed.

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
        f"a line in the log of {name!r} is damaged: {line[:60]!r}; the lines above it are the "
        "earlier positions of the ref: repair or remove the damaged line",
        ref=name,
        where=f"refs: {name}",
    )
