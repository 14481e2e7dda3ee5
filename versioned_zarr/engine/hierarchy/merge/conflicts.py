"""Merge conflicts: their kinds, attributes and messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from versioned_zarr.engine.hierarchy.json_values import plain
from versioned_zarr.terminal_text import escaped_line

_SHOWN_CHARACTERS = 200
_SHOWN_AROUND = 60
_SHOWN_CHUNKS = 8
_SIDES = ("base", "ours", "theirs")


class ConflictKind(StrEnum):
    """The kind of a conflict. Each value is its description, also in JSON."""

    CHANGED = "changed on both sides"
    ADDED = "added on both sides"
    REMOVED = "removed on one side, changed on the other"
    ALIKE = "written with the same bytes on both sides independently"
    FIELD = "field changed on both sides"
    STRUCTURE = "structure changed differently on both sides"
    STRUCTURE_AND_CHUNKS = "structure changed on one side, chunks written on the other"
    ADDED_DIFFERENTLY = "added differently on both sides"
    NODES_IN_ARRAY = "an array on one side, nodes below it on the other"
    FORMATS = "its documents of two Zarr formats changed on different sides"
    WRITTEN_TWICE = "written twice"
    KEY_IN_VALUE = "value above or below another"


@dataclass(frozen=True)
class ChunkConflict:
    """A stored chunk of an array that both sides changed.

    Attributes:
        key: its key.
        coordinates: its position in the grid of stored chunks (shards, if sharded).
        kind: the kind of conflict, a `ConflictKind`.
        base: the CID of the chunk in the base, as text; None if absent.
        ours: the CID of the chunk on the side merged into; None if absent.
        theirs: the same on the other side.
        inner: the positions of the conflicting inner chunks in the grid of inner chunks, if it is a
            shard whose index could be read. The other inner chunks merge.
    """

    key: str
    coordinates: tuple[int, ...]
    kind: str
    base: str | None
    ours: str | None
    theirs: str | None
    inner: tuple[tuple[int, ...], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The chunk as plain JSON data."""
        return {
            **self.__dict__,
            "kind": str(self.kind),
            "coordinates": list(self.coordinates),
            "inner": [list(each) for each in self.inner],
        }


@dataclass(frozen=True)
class CompetingWrite:
    """One of the writes to a key by processes of a session that did not know of each other.

    Attributes:
        writer: the process and its machine, as text.
        size: the size of the value in bytes; None for a deletion.
        cid: the CID of the value, as text; None for a deletion.
    """

    writer: str
    size: int | None
    cid: str | None

    def __str__(self) -> str:
        what = "deleted it" if self.cid is None else f"wrote {self.size} bytes ({self.cid})"
        return f"{self.writer} {what}"

    def to_dict(self) -> dict[str, Any]:
        """The write as plain JSON data."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Conflict:
    """Incompatible changes by both sides to the same key, field, node or chunks.

    Attributes:
        path: the key, or the path of the node; for chunks, the path of their array.
        kind: the kind of conflict, a `ConflictKind`; compares equal to its text.
        base: the value in the base: its CID as text, or the value of the field; None if absent.
            For several chunks, a tuple in the order of `chunks`.
        ours: the value on the side merged into.
        theirs: the value on the other side.
        field: for a conflict within a metadata document, the field: its names joined by dots, with
            `[name=x]` for an item of a list.
        fields: for a conflict of a node, the fields (or documents) involved.
        chunks: for a conflict of chunks, each of them.
        missing: for a conflict of a field, the sides that lack it, as opposed to null.
        writes: for a key that processes of one session wrote independently, each of these writes.
    """

    path: str
    kind: str
    base: Any
    ours: Any
    theirs: Any
    field: str | None = None
    fields: tuple[str, ...] = ()
    chunks: tuple[ChunkConflict, ...] = ()
    missing: tuple[str, ...] = ()
    writes: tuple[CompetingWrite, ...] = ()

    def __post_init__(self) -> None:
        if self.kind in set(ConflictKind):
            object.__setattr__(self, "kind", ConflictKind(self.kind))

    @property
    def reason(self) -> str:
        """The description of the conflict, with the names of the fields involved."""
        names = " and ".join(self.fields)
        if not names:
            return str(self.kind)
        if self.kind in (ConflictKind.STRUCTURE, ConflictKind.STRUCTURE_AND_CHUNKS):
            return str(self.kind).replace("structure", names, 1)
        return f"{self.kind} ({names})"

    @property
    def hint(self) -> str:
        """How to resolve the conflict, if that is not obvious; empty otherwise."""
        if self.kind == ConflictKind.ALIKE:
            alike, what = [self.path], "the value that both wrote"
        else:
            alike = [chunk.key for chunk in self.chunks if chunk.kind == ConflictKind.ALIKE]
            what = f"the value that both wrote in each chunk ({len(alike)} of them)"
        if not alike:
            return ""
        patterns = ", ".join(f"{path!r}: 'ours'" for path in alike[:_SHOWN_CHUNKS])
        more = ", …" if len(alike) > _SHOWN_CHUNKS else ""
        return f"if {what} is right, commit again with resolve={{{patterns}{more}}}"

    def __str__(self) -> str:
        where = self.path or "/"
        if self.field is not None:
            where += f" [{self.field}]"
        told = f"{where}: {self.reason}"
        if len(self.chunks) == 1:
            [chunk] = self.chunks
            told = f"{chunk.key}{_inner_of(chunk)}: {self.reason}"
        elif self.chunks:
            told = f"{where}: {len(self.chunks)} chunks {self.reason} ({self._chunk_names()})"
        if self.writes:
            more = len(self.writes) - _SHOWN_CHUNKS
            names = [str(write) for write in self.writes[:_SHOWN_CHUNKS]]
            told += f": {', '.join(names)}" + (f" and {more} more" if more > 0 else "")
        elif len(self.chunks) < 2:
            sides = zip(_SIDES, self._texts(), strict=True)
            told += f" ({', '.join(f'{side} {text}' for side, text in sides)})"
        return escaped_line(f"{told}; {self.hint}" if self.hint else told)

    def _texts(self) -> Iterator[str]:
        values = (self.base, self.ours, self.theirs)
        if self.field is None:
            yield from ("nothing" if value is None else str(value) for value in values)
            return
        texts = shown_apart([json.dumps(value, ensure_ascii=False) for value in values])
        for side, text in zip(_SIDES, texts, strict=True):
            yield "nothing" if side in self.missing else text

    def _chunk_names(self) -> str:
        names = [f"{chunk.key}{_inner_of(chunk)}" for chunk in self.chunks[:_SHOWN_CHUNKS]]
        more = len(self.chunks) - len(names)
        return ", ".join(names) + (f" and {more} more" if more else "")

    def to_dict(self) -> dict[str, Any]:
        """The conflict as plain JSON data."""
        return {
            **{name: plain(value) for name, value in self.__dict__.items()},
            "kind": str(self.kind),
            "reason": self.reason,
            "fields": list(self.fields),
            "chunks": [chunk.to_dict() for chunk in self.chunks],
            "missing": list(self.missing),
            "writes": [write.to_dict() for write in self.writes],
        }


def of_chunks(path: str, chunks: Sequence[ChunkConflict]) -> Conflict:
    """The conflict of an array's chunks, as one conflict.

    Args:
        path: the path of the array.
        chunks: its conflicting chunks, at least one.
    """
    kinds = {chunk.kind for chunk in chunks}
    kind = kinds.pop() if len(kinds) == 1 else ConflictKind.CHANGED
    sides = [
        tuple(chunk.base for chunk in chunks),
        tuple(chunk.ours for chunk in chunks),
        tuple(chunk.theirs for chunk in chunks),
    ]
    base, ours, theirs = (side[0] if len(side) == 1 else side for side in sides)
    return Conflict(path, kind, base, ours, theirs, chunks=tuple(chunks))


def shown_apart(texts: Sequence[str]) -> list[str]:
    """Texts for display side by side; long ones are cut in the middle, around a difference.

    Two different texts never look the same.
    """
    if all(len(text) <= _SHOWN_CHARACTERS for text in texts):
        return list(texts)
    return [_cut(text, _difference(text, texts)) for text in texts]


def _difference(text: str, others: Sequence[str]) -> int:
    """The first position at which two texts differ."""
    found = [
        next(
            (at for at, (one, two) in enumerate(zip(text, other, strict=False)) if one != two),
            min(len(text), len(other)),
        )
        for other in others
        if other != text
    ]
    # The last difference distinguishes it from the most similar text.
    return max(found, default=0)


def _cut(text: str, at: int) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    windows = [
        (0, _SHOWN_AROUND),
        (max(0, at - _SHOWN_AROUND // 2), at + _SHOWN_AROUND // 2),
        (len(text) - _SHOWN_AROUND, len(text)),
    ]
    shown, end = "", 0
    for start, stop in windows:
        if start > end:
            shown += f"…({start - end} characters)…"
        shown += text[max(start, end) : max(stop, end)]
        end = max(end, min(stop, len(text)))
    return shown


def _inner_of(chunk: ChunkConflict) -> str:
    if not chunk.inner:
        return ""
    named = ", ".join(str(list(each)) for each in chunk.inner[:_SHOWN_CHUNKS])
    more = len(chunk.inner) - _SHOWN_CHUNKS
    return f" inner chunk{'s' * (len(chunk.inner) > 1)} {named}" + (
        f" and {more} more" if more > 0 else ""
    )
