"""CAR files of a snapshot or a history: written in one pass, read with every block verified."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from versioned_zarr.blocks.file_reader import get_verified
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.engine.revisions import resolve, resolve_commit
from versioned_zarr.engine.transfer.history_walk import commit_blocks, tips
from versioned_zarr.engine.transfer.missing_objects import MissingBlock, MissingObjects
from versioned_zarr.engine.transfer.ref_updates import move_ref
from versioned_zarr.engine.transfer.sender import Sender, reader, receiving
from versioned_zarr.errors import (
    BlockNotFoundError,
    BranchMovedError,
    CorruptBlockError,
    InvalidCidError,
    InvalidInputError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.history import walk
from versioned_zarr.history.commit_object import is_commit
from versioned_zarr.history.ref_names import check_new_ref_name
from versioned_zarr.history.refs import HEADS
from versioned_zarr.ipld import car_v1, car_v2, dag_pb
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.car_v1 import Car, CarBlock
from versioned_zarr.ipld.cid import CID_SIZE, DAG_PB, RAW, Cid, from_text, to_text
from versioned_zarr.ipld.identity import inline

_REPORT_BYTES = 1 << 20
_ASKED_LEAVES = 4096
_SHA2_256 = 0x12  # the beginning of a CIDv0, which is a bare multihash


def export_car(
    stores: RepositoryContext,
    ref: str,
    path: str | os.PathLike[str],
    *,
    history: bool,
    since: str | None,
    version: int,
    progress: OnProgress | None,
) -> str:
    """See `Repository.export_car`."""
    if version not in (1, 2):
        raise InvalidInputError(f"version must be 1 or 2, for CARv1 or CARv2, not {version!r}")
    with reader(stores.blocks) as pool:
        novelty = MissingObjects(stores.blocks.get, pool=pool, parents_first=True)
        if history:
            root = from_text(resolve_commit(stores, ref).cid)
            found = _history(stores, novelty, root, since)
        else:
            root = resolve(stores, ref).tree
            found = novelty.blocks(root, [] if since is None else [resolve(stores, since).tree])
        blocks = _read(stores, found, progress)
        with _appearing(os.fspath(path)) as file:
            (_write_v1 if version == 1 else _write_v2)(stores, file, root, blocks)
    return to_text(root)


def _history(
    stores: RepositoryContext, novelty: MissingObjects, root: Cid, since: str | None
) -> Iterator[MissingBlock]:
    """The blocks of a commit and its ancestors, except those that `since` reaches."""
    known = [] if since is None else [resolve_commit(stores, since).cid]
    novelty.complete.update(map(from_text, known))
    for cid in walk.beyond([to_text(root)], known, stores.commit):
        yield from commit_blocks(stores, novelty, cid)


def _read(
    stores: RepositoryContext, found: Iterable[MissingBlock], tell: OnProgress | None
) -> Iterator[Block]:
    """The blocks that were found, each once; leaves are read; all are verified."""
    written: set[bytes] = set()
    size = told = 0
    for each in found:
        if each.cid in written:
            continue
        written.add(each.cid)
        data = each.data
        if data is None or not cids.matches(each.cid, data):
            data = get_verified(stores.blocks, each.cid, stores.storage.url)
        yield each.cid, data
        size += len(data)
        if tell is not None and size - told >= _REPORT_BYTES:
            tell(Progress("blocks", len(written), done_bytes=size))
            told = size
    if tell is not None:
        tell(Progress("blocks", len(written), done_bytes=size))


@contextlib.contextmanager
def _appearing(path: str) -> Iterator[BinaryIO]:
    """A file that appears at its path when it is complete, or not at all.

    It gets the mode of a file that it replaces, and a symbolic link is kept. Something that is
    not a regular file, such as a pipe, is written to directly.
    """
    target = os.path.realpath(path)
    part = f"{target}.{secrets.token_hex(4)}.part"
    try:
        there = os.stat(target).st_mode if os.path.exists(target) else None
        if there is not None and not stat.S_ISREG(there):
            with open(target, "wb") as file:
                yield file
            return
        with open(part, "xb") as file:
            if there is not None:
                os.chmod(file.fileno() if os.chmod in os.supports_fd else part, stat.S_IMODE(there))
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        if isinstance(error, OSError) and not isinstance(error, VersionedZarrError):
            raise StorageError(f"cannot write {path}: {error.strerror}", where=path) from error
        raise


def _write_v1(
    stores: RepositoryContext,  # noqa: ARG001 - as _write_v2
    file: BinaryIO,
    root: Cid,
    blocks: Iterable[Block],
) -> None:
    file.write(car_v1.header([root]))
    for cid, data in blocks:
        file.write(car_v1.section_head(cid, len(data)))
        file.write(data)


def _write_v2(
    stores: RepositoryContext, file: BinaryIO, root: Cid, blocks: Iterable[Block]
) -> None:
    """Write a CARv2 with an index of every block; takes 40 bytes of memory or more per block."""
    sections: list[tuple[bytes, int]] = []
    end = car_v2.FIRST_SECTION
    file.write(bytes(end))
    for cid, data in blocks:
        sections.append((cid[-32:], end))
        head = car_v1.section_head(cid, len(data))
        file.write(head)
        file.write(data)
        end += len(head) + len(data)
    file.write(car_v2.index(sections, stores.hash.code))
    file.seek(0)
    file.write(car_v2.head(root, end))


def import_car(
    stores: RepositoryContext,
    path: str | os.PathLike[str],
    *,
    as_branch: str | None,
    progress: OnProgress | None,
) -> list[str]:
    """See `Repository.import_car`."""
    where = os.fspath(path)
    try:
        opened = open(where, "rb", buffering=1 << 20)  # noqa: SIM115 - closed below
    except OSError as error:
        raise StorageError(f"cannot read {where}: {error.strerror}", where=where) from error
    with opened as file, receiving(stores):
        car = Car(file, where)
        sender = Sender(stores.blocks, stores.blocks.get, None, tell=progress)
        named = [_version_1(root, where) for root in car.roots]
        for section in car.sections():
            if _is_whole(section, where):
                _check_links(section, where)
                sender.add(
                    MissingBlock(section.cid, section.data, len(section.data), is_value=False)
                )
        sender.finish()
        for root in named:
            _check_readable(stores, root, where)
        roots = [to_text(root) for root in named]
        if as_branch is not None:
            _name(stores, roots, as_branch, where)
    return roots


def _version_1(root: Cid, where: str) -> Cid:
    """The CIDv1 of a root, by which its block is stored.

    Raises:
        InvalidCidError: repositories cannot store blocks of this kind.
    """
    named = Cid(bytes((1, DAG_PB)) + root) if root[0] == _SHA2_256 else root
    if not cids.is_ours(named):
        raise _not_kept(f"the root of {where}", root)
    return named


def _check_links(section: CarBlock, where: str) -> None:
    """Reject a node with a link to a block that repositories cannot store.

    Raises:
        InvalidCidError: it has such a link.
    """
    if cids.is_raw(section.cid):
        return
    try:
        links = dag_pb.decode(section.data)[0]
    except CorruptBlockError:
        return  # its hash is verified when it is read
    for link in links:
        if not cids.is_ours(link.cid):
            raise _not_kept(f"a link in the block in {where} at byte {section.offset}", link.cid)


def _not_kept(what: str, cid: Cid) -> InvalidCidError:
    text = to_text(cid)
    if cid[0] == _SHA2_256:
        kind, hint = "a CIDv0", "; add it with 'ipfs add --cid-version=1'"
    elif inline(cid) is not None:
        kind, hint = "an identity CID", "; add it without 'ipfs add --inline'"
    else:
        kind, hint = "a CID of another kind", ""
    return InvalidCidError(
        f"{what} is {text}, {kind}, but a repository stores only what a CIDv1 names, raw or "
        f"dag-pb, with sha2-256 or blake3{hint}; or read it in place with vz.open_snapshot",
        text=text,
    )


def _check_readable(stores: RepositoryContext, root: Cid, where: str) -> None:
    """Make sure that everything that a root reaches is here; O(blocks that no ref reaches yet).

    Raises:
        BlockNotFoundError: a block is missing.
    """
    if _is_no_commit(stores, root, where):
        _check_here(stores, MissingObjects(stores.blocks.get).blocks(root), where)
    else:
        check_complete(stores, root, where)


def _is_no_commit(stores: RepositoryContext, root: Cid, where: str) -> bool:
    """Whether a root is no commit."""
    return cids.is_raw(root) or not _is_stored_commit(stores, to_text(root), where)


def _is_whole(section: CarBlock, where: str) -> bool:
    """Whether a block must be stored; not if the CID contains the block (identity hash).

    Raises:
        CorruptBlockError: its bytes do not match its CID.
        InvalidCidError: repositories cannot store blocks of this kind.
    """
    location = f"{where} at byte {section.offset}"
    held = inline(section.cid) if section.cid[:1] == b"\x01" else None
    if held is None:
        is_kept = len(section.cid) == CID_SIZE and section.cid[1] in (RAW, DAG_PB)
        try:
            is_sound = is_kept and cids.matches(section.cid, section.data)
        except InvalidCidError:
            is_kept = is_sound = False
        if not is_kept:
            text = to_text(section.cid)
            kind = " in a CIDv0" if section.cid[0] == _SHA2_256 else ""
            raise InvalidCidError(
                f"the block in {location} is named {text}{kind}, but a repository stores only "
                f"what a "
                "CIDv1 names, raw or dag-pb, with sha2-256 or blake3",
                text=text,
            )
    else:
        is_sound = held == section.data
    if not is_sound:
        text = to_text(section.cid)
        raise CorruptBlockError(
            f"the block in {location} is not {text}, as the CAR says; get the CAR file again",
            cid=text,
            where=location,
        )
    return held is None


def _name(stores: RepositoryContext, roots: list[str], branch: str, where: str) -> None:
    """Point a branch to the one root, after checking that everything that it reaches is here."""
    if len(roots) != 1:
        raise InvalidInputError(
            f"{where} has {len(roots)} roots, but a branch names one commit; import it without "
            "as_branch, and check out its roots by CID"
        )
    if not _is_stored_commit(stores, roots[0], where):
        raise InvalidInputError(
            f"the root of {where}, {roots[0]}, is not a commit; a branch needs one: export it with "
            "its history, or check out its root by CID"
        )
    commit = stores.commit(roots[0])
    entry = stores.refs.read(HEADS, check_new_ref_name(branch))
    head = None if entry is None else entry.commit
    if head is not None and not walk.is_ancestor(to_text(head), commit.cid, stores.commit):
        raise BranchMovedError(
            f"branch {branch!r} is at {to_text(head)}, which is not an ancestor of {commit.cid}; "
            "import it as another branch, and merge that branch",
            branch=branch,
            expected=commit.cid,
            found=to_text(head),
        )
    if head != from_text(commit.cid):
        why = f"import: {commit.summary}"
        move_ref(stores, HEADS, branch, head, from_text(commit.cid), why)


def _is_stored_commit(stores: RepositoryContext, root: str, where: str) -> bool:
    try:
        return is_commit(from_text(root), stores.blocks)
    except BlockNotFoundError as error:
        raise _incomplete(error, where) from error


def check_complete(stores: RepositoryContext, commit: Cid, where: str) -> None:
    """Make sure that everything that a commit reaches is here. O(blocks that no ref reaches yet).

    Raises:
        BlockNotFoundError: a block is missing.
    """
    known = tips(stores)
    novelty = MissingObjects(stores.blocks.get, set(map(from_text, known)))

    def reached() -> Iterator[MissingBlock]:
        for cid in walk.beyond([to_text(commit)], known, stores.commit):
            yield from commit_blocks(stores, novelty, cid)

    _check_here(stores, reached(), where)


def _check_here(stores: RepositoryContext, blocks: Iterable[MissingBlock], where: str) -> None:
    """Make sure that all blocks are here; the existence of leaves is checked in batches."""
    leaves: list[Cid] = []
    try:
        for found in blocks:
            if found.data is None:
                leaves.append(found.cid)
            if len(leaves) >= _ASKED_LEAVES:
                _check_leaves(stores, leaves)
        _check_leaves(stores, leaves)
    except BlockNotFoundError as error:
        raise _incomplete(error, where) from error


def _check_leaves(stores: RepositoryContext, leaves: list[Cid]) -> None:
    for cid in stores.blocks.missing(leaves):
        raise BlockNotFoundError(f"block {to_text(cid)} is missing", cid=to_text(cid))
    leaves.clear()


def _incomplete(error: BlockNotFoundError, where: str) -> BlockNotFoundError:
    return BlockNotFoundError(
        f"{where} does not hold all that its root reaches, nor does this repository: "
        f"block {error.cid} is missing; if it was exported with since=, the earlier version "
        "must be imported first",
        cid=error.cid,
    )
