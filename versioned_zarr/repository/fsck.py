"""Checking all that is stored, and naming the keys and commits that a damage touches.

Works on the packs themselves, by their sections and by their own index, so that a damaged index
hides nothing. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from versioned_zarr.blocks.index import run_from_file
from versioned_zarr.blocks.pack import read_entries
from versioned_zarr.blocks.packed import INDEX, PACKS
from versioned_zarr.errors import (
    BlockNotFoundError,
    CorruptError,
    CorruptJournalError,
    FormatError,
    RepositoryNotFoundError,
)
from versioned_zarr.history.refs import HEADS, TAGS
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.car import (
    DATA_OFFSET,
    FIRST_SECTION,
    Section,
    decode_varint,
    encode_index,
    read_pack_head,
    sections,
)
from versioned_zarr.ipld.cid import CID_SIZE, Cid, to_text
from versioned_zarr.repository.impact import Impact, trace
from versioned_zarr.repository.journal import (
    Kind,
    Record,
    draft_path,
    folder_of,
    read_head,
    session_ids,
)
from versioned_zarr.repository.marker import MARKER, read_marker
from versioned_zarr.repository.reach import session_roots
from versioned_zarr.repository.sessions import read_records, writes_since_commit
from versioned_zarr.repository.stores import Stores
from versioned_zarr.repository.working import places_in
from versioned_zarr.storage import Draft


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written, or not there.

    Attributes:
        where: the path in the repository, and the byte where that is known.
        problem: what is wrong with it.
        cid: the block, if it is one.
        keys: the keys that cannot be read because of it; `path/*` for all in a folder.
        commits: the commits that hold those keys.
    """

    where: str
    problem: str
    cid: str | None = None
    keys: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}"
        if self.keys:
            text += f"; keys {', '.join(self.keys[:5])}" + (" …" if len(self.keys) > 5 else "")
        if self.commits:
            text += f"; in {len(self.commits)} commits, the first {self.commits[0]}"
        return text


@dataclass
class Report:
    """What `fsck` found.

    Attributes:
        missing: blocks that something names and that are nowhere.
        damaged: what is there and is not what it should be.
        unreferenced: the CIDs of blocks that nothing reaches; `gc` removes them. No fault.
        checked_blocks: how many blocks were looked at.
    """

    missing: list[Damage] = field(default_factory=list)
    damaged: list[Damage] = field(default_factory=list)
    unreferenced: list[str] = field(default_factory=list)
    checked_blocks: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing or damaged."""
        return not self.missing and not self.damaged

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON data."""
        return {**asdict(self), "is_clean": self.is_clean}

    def __str__(self) -> str:
        lines = [f"missing: {damage}" for damage in self.missing]
        lines += [f"damaged: {damage}" for damage in self.damaged]
        state = "clean" if self.is_clean else "NOT clean"
        lines.append(
            f"{state}: {self.checked_blocks} blocks checked, {len(self.unreferenced)} unreferenced"
        )
        return "\n".join(lines)


class _Sound:
    """The blocks that are there and, if they were read, hash to their CIDs."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self.places: dict[bytes, tuple[str, int, int]] = {}
        self.bad: dict[bytes, tuple[str, Cid]] = {}

    def get(self, cid: Cid) -> memoryview:
        place = self.places.get(cid[-32:])
        if place is None:
            raise BlockNotFoundError(f"block {to_text(cid)} is missing", cid=to_text(cid))
        path, start, end = place
        view = self._stores.storage.view(path)
        return self._stores.storage.read(path, start, end) if view is None else view[start:end]


def fsck(stores: Stores, *, read_all: bool) -> Report:
    """See `Repository.fsck`. O(repository)."""
    report = Report()
    sound = _Sound(stores)
    _check_marker(stores, report)
    roots = _check_refs(stores, report)
    for stored in stores.storage.list(PACKS):
        if stored.path.endswith(".car"):
            _check_pack(stores, stored.path, sound, report, read_all=read_all)
    _check_index(stores, report)
    roots |= _check_sessions(stores, sound, report, read_all=read_all)
    reached: set[bytes] = set()
    impact = trace(sound, roots, reached)
    _name_impact(sound, impact, report)
    reached.add(stores.empty_tree[-32:])
    _, kept = _session_roots(stores)
    _reach_values(sound, kept, reached)
    report.unreferenced = sorted(
        stores_text
        for digest, stores_text in _texts(sound)
        if digest not in reached
    )
    return report


def _texts(sound: _Sound) -> Iterator[tuple[bytes, str]]:
    for digest, (path, start, _) in sound.places.items():
        view = sound._stores.storage.view(path)
        data = sound._stores.storage.read(path, start - CID_SIZE, start) if view is None else view[start - CID_SIZE : start]
        yield digest, to_text(Cid(bytes(data)))


def _session_roots(stores: Stores) -> tuple[set[Cid], set[Cid]]:
    try:
        return session_roots(stores)
    except CorruptJournalError:
        return set(), set()


def _reach_values(sound: _Sound, values: set[Cid], reached: set[bytes]) -> None:
    stack = list(values)
    while stack:
        cid = stack.pop()
        if cid[-32:] in reached or cid[-32:] not in sound.places:
            continue
        reached.add(cid[-32:])
        if not cids.is_raw(cid):
            stack += [link.cid for link in dag_pb.decode(sound.get(cid))[0]]


def _check_marker(stores: Stores, report: Report) -> None:
    try:
        read_marker(stores.storage)
    except (FormatError, RepositoryNotFoundError) as error:
        report.damaged.append(Damage(MARKER, str(error)))


def _check_refs(stores: Stores, report: Report) -> set[Cid]:
    """The commits that the refs name or named; damaged logs are reported."""
    roots: set[Cid] = set()
    for kind in (HEADS, TAGS):
        for stored in stores.storage.list(f"refs/{kind}"):
            from versioned_zarr.history.names import from_file_name

            name = from_file_name(stored.path.rpartition("/")[2].removesuffix(".log"))
            number: int | None = None
            try:
                for entry in stores.refs.history(kind, name):
                    if number is not None and entry.number != number - 1:
                        problem = f"moves {entry.number + 1} to {number - 1} are not there"
                        report.damaged.append(Damage(stored.path, problem))
                    number = entry.number
                    if entry.commit is not None:
                        roots.add(entry.commit)
            except CorruptError as error:
                report.damaged.append(Damage(stored.path, str(error)))
    return roots


def _check_pack(
    stores: Stores, path: str, sound: _Sound, report: Report, *, read_all: bool
) -> None:
    data = stores.storage.view(path) or stores.storage.read(path)
    places: dict[int, Section] = {}
    data_end = len(data)
    try:
        entries, data_end = read_entries(data, stores.hash, path)
        for digest, offset in entries.tolist():
            at = int(offset) + DATA_OFFSET
            try:
                length, start = decode_varint(data, at, path)
            except CorruptError:
                length, start = 0, at
            named = Cid(bytes(data[start : start + 4]) + bytes(digest))
            if not _is_prefix(stores, named[:4]):
                problem = f"the name of the block at byte {at} is damaged"
                cid = to_text(_likely(stores, bytes(digest)))
                report.damaged.append(Damage(path, problem, cid))
            if length < CID_SIZE or start + length > data_end:
                problem = f"no block begins at byte {at}"
                report.damaged.append(Damage(path, problem, to_text(_likely(stores, bytes(digest)))))
                sound.bad.setdefault(bytes(digest), (path, _likely(stores, bytes(digest))))
            else:
                places[at] = Section(at, named, start + CID_SIZE, start + length)
        if bytes(data[data_end:]) != encode_index(entries, stores.hash.code):
            report.damaged.append(Damage(path, "its index is not in order"))
    except CorruptError as error:
        report.damaged.append(Damage(path, str(error)))
        try:
            data_end = read_pack_head(data, path)[1]
        except CorruptError:
            data_end = len(data)
    position = FIRST_SECTION
    try:
        for section in sections(data, FIRST_SECTION, data_end, path):
            indexed = places.get(section.offset)
            if indexed is None and section.cid[2:4] != bytes((stores.hash.code, 32)):
                break
            if indexed is None and places:
                problem = f"the block at byte {section.offset} is not in the pack's index"
                report.damaged.append(Damage(path, problem, to_text(section.cid)))
            elif indexed is not None and indexed.cid != section.cid:
                problem = f"the name of the block at byte {section.offset} is damaged"
                report.damaged.append(Damage(path, problem, to_text(_likely(stores, indexed.cid[-32:]))))
            places.setdefault(section.offset, section)
            position = section.end
    except CorruptError as error:
        report.damaged.append(Damage(path, str(error)))
    if position != data_end and places and position == FIRST_SECTION:
        report.damaged.append(Damage(path, f"its sections end at byte {position}"))
    _check_root(stores, path, data, places, report)
    for section in places.values():
        report.checked_blocks += 1
        digest = section.cid[-32:]
        block = data[section.start : section.end]
        if read_all and stores.hash.digest(block) != digest:
            likely = _likely(stores, digest)
            problem = f"the block at byte {section.start} does not hash to its name"
            report.damaged.append(Damage(path, problem, to_text(likely)))
            sound.bad.setdefault(digest, (path, likely))
        elif digest not in sound.places:
            sound.places[digest] = (path, section.start, section.end)


def _check_root(
    stores: Stores, path: str, data: memoryview, places: dict[int, Section], report: Report
) -> None:
    """The root of a pack is one of its blocks."""
    try:
        root = read_pack_head(data, path)[0]
    except CorruptError:
        return  # said already
    digests = {section.cid[-32:] for section in places.values()}
    if root[-32:] not in digests or not _is_prefix(stores, root[:4]):
        report.damaged.append(Damage(path, "the root that its head names is not in it"))


def _is_prefix(stores: Stores, prefix: bytes) -> bool:
    multihash = bytes((stores.hash.code, 32))
    return prefix in (b"\x01\x55" + multihash, b"\x01\x70" + multihash)


def _likely(stores: Stores, digest: bytes) -> Cid:
    """A CID for a digest whose codec is not known: raw, as most blocks are."""
    return Cid(b"\x01\x55" + bytes((stores.hash.code, 32)) + digest)


def _check_index(stores: Stores, report: Report) -> None:
    for stored in stores.storage.list(INDEX):
        data = stores.storage.view(stored.path) or stores.storage.read(stored.path)
        try:
            run_from_file(data, stores.hash.code, stored.path, check=True)
        except CorruptError as error:
            problem = f"{error}; it is made again from the packs when it is missed"
            report.damaged.append(Damage(stored.path, problem))


def _check_sessions(
    stores: Stores, sound: _Sound, report: Report, *, read_all: bool
) -> set[Cid]:
    """The commits that sessions are based on; damaged journals and drafts are reported."""
    roots: set[Cid] = set()
    for session in session_ids(stores.storage):
        try:
            head = read_head(stores.storage, session)
            roots.add(cids.from_text(head.base))
            records = read_records(stores.storage, session)
        except FileNotFoundError:
            continue
        except CorruptError as error:
            report.damaged.append(Damage(folder_of(session), str(error)))
            continue
        roots.update(record.cid for record in records if record.kind is Kind.COMMIT)
        if read_all:
            _check_drafts(stores, session, writes_since_commit(records)[1], sound, report)
    return roots


def _check_drafts(
    stores: Stores, session: str, records: list[Record], sound: _Sound, report: Report
) -> None:
    """Read what the journal says lies in drafts; what it does not name, nobody was promised."""
    by_draft: dict[int, list[Record]] = {}
    for record in records:
        if record.kind is Kind.SET and record.cid[-32:] not in sound.places:
            by_draft.setdefault(record.draft, []).append(record)
    for number, group in by_draft.items():
        path = draft_path(session, number)
        try:
            draft = stores.storage.read_draft(path)
        except FileNotFoundError:
            for record in group:
                problem = "its draft is gone and no pack holds it"
                damage = Damage(path, problem, to_text(record.cid), (record.key,))
                report.missing.append(damage)
            continue
        try:
            if any(draft.read(0, FIRST_SECTION)):
                report.damaged.append(Damage(path, "its head, not written yet, is damaged"))
            for record in group:
                problem = _problem_in(stores, draft, record)
                if problem:
                    damage = Damage(path, problem, to_text(record.cid), (record.key,))
                    report.damaged.append(damage)
        finally:
            draft.close()


def _problem_in(stores: Stores, draft: Draft, record: Record) -> str | None:
    """What is wrong with a value in a draft, if anything."""
    first = None
    try:
        for cid, low, high in places_in(draft, record.offset, record.tsize):
            first = first or cid
            if stores.hash.digest(draft.read(low, high)) != cid[-32:]:
                return f"the block at byte {low} does not hash to its name"
    except CorruptError as error:
        return str(error)
    return None if first == record.cid else f"no such value at byte {record.offset}"


def _name_impact(sound: _Sound, impact: dict[Cid, Impact], report: Report) -> None:
    """Say of each damage which keys and commits it touches, and list what is missing."""
    by_digest: dict[bytes, tuple[Cid, Impact]] = {
        cid[-32:]: (cid, touched) for cid, touched in impact.items()
    }
    named = []
    for damage in report.damaged:
        digest = None if damage.cid is None else cids.from_text(damage.cid)[-32:]
        found = by_digest.get(digest) if digest is not None else None
        if found is not None:
            cid, touched = found
            damage = Damage(
                damage.where,
                damage.problem,
                to_text(cid),
                tuple(sorted(touched.keys)),
                tuple(sorted(touched.commits)),
            )
        elif digest is not None and digest in sound.places:
            damage = replace(damage, problem=f"{damage.problem}; another pack holds it whole")
        named.append(damage)
    report.damaged = named
    for digest, (cid, touched) in by_digest.items():
        if digest not in sound.bad:
            report.missing.append(
                Damage(
                    PACKS,
                    f"block {to_text(cid)} is nowhere",
                    to_text(cid),
                    tuple(sorted(touched.keys)),
                    tuple(sorted(touched.commits)),
                )
            )


