"""Fsck: verifies all stored data, and reports the keys and commits affected by damage.

It reads the packs directly, by their own tails, so that a damaged index file hides nothing. It
changes nothing.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace

from versioned_zarr.blocks.packs.index import run_from_file
from versioned_zarr.blocks.packs.pack_registry import ENDING, INDEX, PACKS
from versioned_zarr.blocks.packs.pack_store import MAINTENANCE_LOCK
from versioned_zarr.blocks.packs.verify_pack import check_pack
from versioned_zarr.blocks.protocol import PartialBlocks, ServedBlocks
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.maintenance.damage_trace import DamageTrace, trace
from versioned_zarr.engine.maintenance.reachability import roots_of
from versioned_zarr.engine.maintenance.report import Damage, Report
from versioned_zarr.engine.marker import MARKER, read_marker
from versioned_zarr.engine.partial_clone import read as read_selection
from versioned_zarr.engine.progress import OnProgress, Steps
from versioned_zarr.engine.sessions.journal import (
    JournalRecord,
    RecordKind,
    draft_path,
    folder_of,
    read_head,
    session_ids,
)
from versioned_zarr.engine.sessions.listing import session_info, sound_records, writes_since_commit
from versioned_zarr.engine.sessions.pack_staging import value_in
from versioned_zarr.errors import (
    BlockNotFoundError,
    CorruptError,
    FormatError,
    ReadOnlyError,
    RepositoryNotFoundError,
    SessionNotFoundError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.history.ref_names import to_file_path
from versioned_zarr.history.refs import KINDS
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.storage.protocol import StagedPack, view_or_read


class _Sound:
    """The blocks that exist and, if they were read, match their CIDs."""

    def __init__(self, stores: RepositoryContext) -> None:
        self._storage = stores.storage
        self.locations: dict[bytes, tuple[Cid, tuple[str, int, int]]] = {}
        self.lost: set[bytes] = set()

    def get(self, cid: Cid) -> memoryview:
        found = self.locations.get(cid[-32:])
        if found is None:
            raise BlockNotFoundError(f"block {to_text(cid)} is missing", cid=to_text(cid))
        path, start, end = found[1]
        return view_or_read(self._storage, path, start, end)


def fsck(
    stores: RepositoryContext, *, read_all: bool, progress: OnProgress | None = None
) -> Report:
    """See `Repository.fsck`. O(repository)."""
    with ExitStack() as held:
        # On read-only storage, nobody removes packs either.
        with suppress(ReadOnlyError, StorageError):
            held.enter_context(stores.storage.lock(MAINTENANCE_LOCK))
        return _fsck(stores, read_all=read_all, progress=progress)


def _fsck(stores: RepositoryContext, *, read_all: bool, progress: OnProgress | None) -> Report:
    report = Report(strays=tuple(stores.strays()))
    if isinstance(stores.blocks, ServedBlocks):
        Steps(0, progress)
        _check_served(stores, stores.blocks, report, read_all=read_all)
        return report
    sound = _Sound(stores)
    _check_marker(stores, report)
    roots = _check_refs(stores, report)
    packs = [stored for stored in stores.storage.list(PACKS) if stored.path.endswith(ENDING)]
    steps = Steps(sum(stored.size for stored in packs), progress)
    for stored in packs:
        _check_pack(stores, stored.path, sound, report, read_all=read_all)
        steps.add(stored.size)
    _check_index(stores, report)
    roots |= _check_sessions(stores, sound, report, read_all=read_all)
    reached: set[bytes] = set()
    impact = trace(sound, roots, reached)
    _name_impact(sound, impact, report)
    nowhere = {cid: it for cid, it in impact.items() if cid[-32:] not in sound.lost}
    _list_missing(stores, PACKS, nowhere, report)
    reached.add(stores.empty_tree[-32:])
    _reach_values(sound, roots_of(stores, None).values, reached)
    report.unreferenced = sorted(
        to_text(cid) for digest, (cid, _) in sound.locations.items() if digest not in reached
    )
    return report


class _Served:
    """The blocks of a server, checked there and not in any cache, many at a time."""

    def __init__(self, blocks: ServedBlocks, report: Report, *, read_all: bool) -> None:
        self._blocks, self._report, self._read_all = blocks, report, read_all
        self._looked_at: dict[Cid, VersionedZarrError | None] = {}

    def get(self, cid: Cid) -> memoryview:
        """See `BlockSource.get`; for the leaf of a value, only checks that it is intact."""
        if cid not in self._looked_at:
            self._look([cid], read_all=self._read_all or not cids.is_raw(cid))
        problem = self._looked_at[cid]
        if problem is not None:
            raise problem
        if cids.is_raw(cid):
            return memoryview(b"")
        data = self._blocks.get(cid)
        leaves = [link.cid for link in dag_pb.decode(data)[0] if cids.is_raw(link.cid)]
        new = [leaf for leaf in dict.fromkeys(leaves) if leaf not in self._looked_at]
        self._look(new, read_all=self._read_all)
        return data

    def _look(self, wanted: list[Cid], *, read_all: bool) -> None:
        problems = self._blocks.problems(wanted, read_all=read_all)
        for cid in wanted:
            problem = self._looked_at[cid] = problems.get(cid)
            self._report.checked_blocks += 1
            if isinstance(problem, CorruptError):
                self._report.damaged.append(Damage(to_text(cid), str(problem), to_text(cid)))


def _check_served(
    stores: RepositoryContext, blocks: ServedBlocks, report: Report, *, read_all: bool
) -> None:
    """Check everything reachable from refs; the server manages unreachable blocks."""
    _check_marker(stores, report)
    roots: set[Cid] = set()
    for kind in KINDS:
        for name in stores.refs.names(kind, deleted=True):
            _check_log(stores, kind, name, f"refs/{kind}/{name}", roots, report)
    impact = trace(_Served(blocks, report, read_all=read_all), roots, set())
    damaged = {damage.cid for damage in report.damaged}
    report.damaged = [
        damage
        if damage.cid is None
        else _with_impact(damage, cids.from_text(damage.cid), impact[cids.from_text(damage.cid)])
        for damage in report.damaged
    ]
    nowhere = {cid: it for cid, it in impact.items() if to_text(cid) not in damaged}
    _list_missing(stores, stores.storage.url, nowhere, report)


def _list_missing(
    stores: RepositoryContext, where: str, nowhere: dict[Cid, DamageTrace], report: Report
) -> None:
    """List missing blocks; those of a partial clone are only absent."""
    if read_selection(stores.documents) is None:
        for cid, touched in nowhere.items():
            missing = Damage(where, "the block is missing", to_text(cid))
            report.missing.append(_with_impact(missing, cid, touched))
    else:
        absent = set(map(to_text, nowhere))
        report.absent = sorted(absent)
        report.missing = [each for each in report.missing if each.cid not in absent]


def _reach_values(sound: _Sound, values: set[Cid], reached: set[bytes]) -> None:
    stack = list(values)
    while stack:
        cid = stack.pop()
        if cid[-32:] in reached or cid[-32:] not in sound.locations:
            continue
        reached.add(cid[-32:])
        if not cids.is_raw(cid):
            stack += [link.cid for link in dag_pb.decode(sound.get(cid))[0]]


def _check_marker(stores: RepositoryContext, report: Report) -> None:
    try:
        read_marker(stores.storage.url, stores.read_marker)
    except (FormatError, RepositoryNotFoundError) as error:
        report.damaged.append(Damage(MARKER, str(error)))


def _check_refs(stores: RepositoryContext, report: Report) -> set[Cid]:
    """The commits that the refs name or named; damaged logs are reported."""
    roots: set[Cid] = set()
    for kind in KINDS:
        known = stores.refs.names(kind, deleted=True)
        paths = {f"refs/{to_file_path(kind, name)}.log": name for name in known}
        for stored in stores.storage.list(f"refs/{kind}"):
            if stored.path in paths:
                _check_log(stores, kind, paths[stored.path], stored.path, roots, report)
            elif stored.path.endswith(".log"):
                problem = "not a valid ref name; if nothing uses it, remove it"
                report.damaged.append(Damage(stored.path, problem))
    return roots


def _check_log(
    stores: RepositoryContext, kind: str, name: str, path: str, roots: set[Cid], report: Report
) -> None:
    number: int | None = None
    try:
        for entry in stores.refs.history(kind, name):
            if number is not None and entry.number != number - 1:
                problem = f"log entries {entry.number + 1} to {number - 1} are missing"
                report.damaged.append(Damage(path, problem))
            number = entry.number
            if entry.commit is not None:
                roots.add(entry.commit)
    except CorruptError as error:
        report.damaged.append(Damage(path, str(error)))


def _check_pack(
    stores: RepositoryContext, path: str, sound: _Sound, report: Report, *, read_all: bool
) -> None:
    data = view_or_read(stores.storage, path)
    checked = check_pack(data, stores.hash, path, read_all=read_all)
    for fault in checked.faults:
        cid = None if fault.cid is None else to_text(fault.cid)
        report.damaged.append(Damage(path, fault.problem, cid))
        if fault.cid is not None and fault.is_lost:
            sound.lost.add(fault.cid[-32:])
    report.checked_blocks += len(checked.blocks)
    for block in checked.blocks:
        location = (path, block.start, block.end)
        sound.locations.setdefault(block.cid[-32:], (block.cid, location))


def _check_index(stores: RepositoryContext, report: Report) -> None:
    for stored in stores.storage.list(INDEX):
        if not stored.path.endswith(".idx"):
            continue
        data = view_or_read(stores.storage, stored.path)
        try:
            run_from_file(data, stores.hash.code, stored.path, check=True)
        except CorruptError as error:
            problem = f"{error}; gc and repack rebuild it from the packs"
            report.damaged.append(Damage(stored.path, problem))


def _check_sessions(
    stores: RepositoryContext, sound: _Sound, report: Report, *, read_all: bool
) -> set[Cid]:
    """The commits that sessions are based on; damaged journals and drafts are reported."""
    roots: set[Cid] = set()
    for session in session_ids(stores.storage):
        with suppress(SessionNotFoundError):
            problem = session_info(stores, session).problem
            if problem is not None:
                report.damaged.append(Damage(folder_of(session), problem))
        try:
            with suppress(CorruptError, SessionNotFoundError):
                roots.add(cids.from_text(read_head(stores.storage, session).base))
            records, _ = sound_records(stores.storage, session)
        except (FileNotFoundError, ReadOnlyError, StorageError):
            continue
        roots.update(record.cid for record in records if record.kind is RecordKind.COMMIT)
        if read_all:
            _check_drafts(stores, session, writes_since_commit(records)[1], sound, report)
    return roots


def _check_drafts(
    stores: RepositoryContext,
    session: str,
    records: list[JournalRecord],
    sound: _Sound,
    report: Report,
) -> None:
    """Read the values in drafts that the journal lists; other bytes were never acknowledged.

    The leaves that they reuse must be in packs, or be fetched from the origin of a partial clone.
    """
    is_partial = isinstance(stores.blocks, PartialBlocks)
    by_draft: dict[int, list[JournalRecord]] = {}
    for record in records:
        if record.kind is RecordKind.SET and record.cid[-32:] not in sound.locations:
            by_draft.setdefault(record.draft, []).append(record)
            for cid in () if is_partial else record.reused.cids():
                if cid[-32:] not in sound.locations:
                    problem = "a leaf that a session reuses is missing or damaged"
                    report.missing.append(Damage(PACKS, problem, to_text(cid), (record.key,)))
    for number, group in by_draft.items():
        path = draft_path(session, number)
        try:
            draft = stores.storage.read_draft(path)
        except FileNotFoundError:
            for record in group:
                problem = "its draft is missing and no pack holds it"
                damage = Damage(path, problem, to_text(record.cid), (record.key,))
                report.missing.append(damage)
            continue
        try:
            for record in group:
                found = _problem_in(stores, draft, record)
                if found:
                    damage = Damage(path, found, to_text(record.cid), (record.key,))
                    report.damaged.append(damage)
        finally:
            draft.close()


def _problem_in(stores: RepositoryContext, draft: StagedPack, record: JournalRecord) -> str | None:
    """The problem of a value in a draft, if any."""
    try:
        value_in(draft, record, stores.hash)
    except CorruptError:
        return f"the value at byte {record.offset} does not match its CID"
    return None


def _name_impact(sound: _Sound, impact: dict[Cid, DamageTrace], report: Report) -> None:
    """Add to each damage the keys and commits that it affects."""
    by_digest = {cid[-32:]: cid for cid in impact}
    report.damaged = [_named(damage, sound, impact, by_digest) for damage in report.damaged]


def _named(
    damage: Damage, sound: _Sound, impact: dict[Cid, DamageTrace], by_digest: dict[bytes, Cid]
) -> Damage:
    if damage.cid is None:
        return damage
    digest = cids.from_text(damage.cid)[-32:]
    if digest in by_digest:
        return _with_impact(damage, by_digest[digest], impact[by_digest[digest]])
    if digest in sound.lost and digest in sound.locations:
        return replace(damage, problem=f"{damage.problem}; another pack holds an intact copy")
    return damage


def _with_impact(damage: Damage, cid: Cid, touched: DamageTrace) -> Damage:
    keys, commits = tuple(sorted(touched.keys)), tuple(sorted(touched.commits))
    return replace(damage, cid=to_text(cid), keys=keys, commits=commits)
