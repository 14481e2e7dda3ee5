"""Push, fetch and pull: copy refs, and what they reach, between repositories.

Both are opened in this process and need no protocol besides `BlockStore` and `RefStore`. Blocks are
sent first, children before parents; then each ref moves by compare-and-swap. If a transfer is
interrupted, both sides remain consistent, and the next attempt sends only the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from versioned_zarr.blocks.file_reader import get_verified
from versioned_zarr.engine import rewrite
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.merge.three_way import Resolve
from versioned_zarr.engine.maintenance import repack
from versioned_zarr.engine.open_options import Location, ServerOptions
from versioned_zarr.engine.partial_clone import PartialClone, read
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.engine.ref_mappings import MAIN
from versioned_zarr.engine.remotes import UNNAMED, Remotes
from versioned_zarr.engine.revisions import resolve_commit
from versioned_zarr.engine.transfer.history_walk import commit_blocks, either, newest, tips
from versioned_zarr.engine.transfer.missing_objects import Get, MissingObjects
from versioned_zarr.engine.transfer.ref_updates import (
    WORDS,
    RefMove,
    move_ref,
)
from versioned_zarr.engine.transfer.refspecs import (
    WantedRef,
    kind_at,
    listed,
    sides_of,
    standing,
    to_push,
)
from versioned_zarr.engine.transfer.sender import Sender, Sent, reader, receiving
from versioned_zarr.errors import (
    AlreadyExistsError,
    BlockNotFoundError,
    BranchMovedError,
    InvalidCidError,
    InvalidInputError,
    InvalidRefError,
    VersionedZarrError,
)
from versioned_zarr.history import walk
from versioned_zarr.history.ref_names import (
    check_new_ref_name,
    looks_like_cid,
    word_before_cid,
)
from versioned_zarr.history.refs import HEADS, REMOTES, TAGS, again_if_collected
from versioned_zarr.ipld.cid import Cid, from_text, to_text


@dataclass(frozen=True)
class Transfer:
    """The result of a push, fetch or pull.

    Attributes:
        moves: the refs that moved.
        blocks: the number of blocks stored on the receiving side.
        values: the number of values whose blocks were all stored.
        size_bytes: the total size of those blocks in bytes.
        seen_blocks: the number of blocks compared with those of the receiving side.
        notes: refs that have another name here, and refs that could not be read there.
    """

    moves: tuple[RefMove, ...]
    blocks: int = 0
    values: int = 0
    size_bytes: int = 0
    seen_blocks: int = 0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The transfer as plain JSON data."""
        return {
            "moves": [asdict(move) for move in self.moves],
            "notes": list(self.notes),
            "blocks": self.blocks,
            "values": self.values,
            "size_bytes": self.size_bytes,
            "seen_blocks": self.seen_blocks,
        }

    def __str__(self) -> str:
        lines = [str(move) for move in self.moves] or ["nothing moved"]
        lines.append(
            f"{self.blocks} blocks, {self.values} values, {self.size_bytes:,} bytes stored"
        )
        return "\n".join([*lines, *self.notes])


def copy_commits(
    source: RepositoryContext,
    target: RepositoryContext,
    wanted: Sequence[Cid],
    tell: OnProgress | None = None,
    selection: PartialClone | None = None,
) -> Sent:
    """Store on the target all blocks that commits reach and its refs do not. O(those blocks).

    Args:
        source: the repository to copy from.
        target: the repository to copy to.
        wanted: the commits.
        tell: called after each stored batch.
        selection: the part to copy, for a partial clone, which fetches the rest on demand.

    Raises:
        InvalidInputError: the two use different hash functions.
        BlockNotFoundError: the source lacks a block.
        CorruptBlockError: a block of the source is damaged; it was not stored.
    """
    if source.hash.name != target.hash.name:
        raise InvalidInputError(
            f"{source.storage.url!r} names blocks with {source.hash.name} and "
            f"{target.storage.url!r} with {target.hash.name}, so their CIDs would differ; "
            f"create a repository with hash={source.hash.name!r}, or export and import the values"
        )
    known = tips(target)
    starts = [to_text(cid) for cid in wanted]
    with reader(source.blocks, target.blocks) as pool:
        beside: set[str] | None = None
        paths: tuple[str, ...] = () if selection is None else selection.paths
        if selection is None or selection.depth is None:
            commits = walk.beyond(starts, known, either(source, target))
        else:
            commits = newest(starts, known, selection.depth, source.commit)
            beside = {*commits, *known}
        novelty = MissingObjects(_nearest(source, target), set(map(from_text, known)), pool)
        where = source.storage.url
        leaves = partial(get_verified, source.blocks, where=where)
        sender = Sender(target.blocks, leaves, where, pool, tell)
        for cid in reversed(commits):
            for found in commit_blocks(source, novelty, cid, beside=beside, paths=paths):
                sender.add(found)
        return sender.finish()


def _nearest(source: RepositoryContext, target: RepositoryContext) -> Get:
    """Reads blocks of the source, or of the target if it has them and is local."""
    if not source.blocks.is_remote or target.blocks.is_remote:
        return source.blocks.get
    far, near = source.blocks, target.blocks
    return lambda cid: near.get(cid) if cid in near else far.get(cid)


def push(
    stores: RepositoryContext,
    repository: Location,
    refs: str | Sequence[str] | None,
    *,
    force_with_lease: bool | str | None,
    progress: OnProgress | None,
    options: ServerOptions | None = None,
) -> Transfer:
    """See `Repository.push`."""
    name, target = _open(stores, repository, options)
    wishes = [to_push(stores, text) for text in listed(refs)]
    if refs is None:
        wishes = [
            WantedRef(kind, ref, standing(stores, kind, ref))
            for kind in (HEADS, TAGS)
            for ref in stores.refs.names(kind)
        ]
    moves: list[RefMove] = []

    def send() -> Sent:
        due: list[tuple[WantedRef, Cid | None]] = []
        for wish in wishes:
            entry = target.refs.read(wish.kind, wish.name)
            found = None if entry is None else entry.commit
            if found == wish.commit:
                continue
            if force_with_lease:
                _check_lease(stores, target, name, wish, found, force_with_lease)
            elif found is not None:
                _check_forward(stores, target, wish, found)
            due.append((wish, found))
        sent = copy_commits(stores, target, [wish.commit for wish, _ in due], progress)
        why = f"push from {stores.storage.url}"
        for wish, found in due:
            moves.append(move_ref(target, wish.kind, wish.name, found, wish.commit, why))
        return sent

    with receiving(target):
        sent = again_if_collected(send, stores=True)
    _tidy(target)
    if name is not None:
        for wish in wishes:
            if wish.kind == HEADS:
                _see(
                    stores,
                    WantedRef(REMOTES, f"{name}/{wish.name}", wish.commit),
                    f"push to {name}",
                )
    return Transfer(tuple(moves), **asdict(sent))


def fetch(
    stores: RepositoryContext,
    repository: Location,
    refs: str | Sequence[str] | None,
    *,
    progress: OnProgress | None,
    options: ServerOptions | None = None,
) -> Transfer:
    """See `Repository.fetch`."""
    name, source = _open(stores, repository, options)
    kinds = [(HEADS, ref) for ref in source.refs.names(HEADS)]
    kinds += [(TAGS, ref) for ref in source.refs.names(TAGS)]
    if refs is not None:
        kinds = [kind_at(source, text) for text in listed(refs)]
    passed = {} if refs is not None else {k: source.refs.broken(k) for k in (HEADS, TAGS)}
    notes = [f"skipped: {error}" for kind in passed.values() for error in kind.values()]
    notes += [
        f"tag {ref} is named {word_before_cid(ref)} here, because it reads as a CID"
        for kind, ref in kinds
        if kind == TAGS and looks_like_cid(ref)
    ]
    wishes = []
    for kind, ref in kinds:
        commit = standing(source, kind, ref)
        if kind == HEADS:
            wishes.append(WantedRef(REMOTES, f"{name or UNNAMED}/{ref}", commit))
            continue
        own = word_before_cid(ref) if looks_like_cid(ref) else ref
        if stores.refs.read(TAGS, own) is None:
            wishes.append(WantedRef(TAGS, own, commit))
        elif refs is not None and standing(stores, TAGS, own) != commit:
            raise AlreadyExistsError(
                f"tag {ref!r} names another commit here than in {source.storage.url!r}; delete "
                "it first",
                name=ref,
            )
    with receiving(stores):
        wanted = [wish.commit for wish in wishes]
        sent = copy_commits(source, stores, wanted, progress, _selected(stores, source))
        why = f"fetch from {source.storage.url}"
        moves = [move for wish in wishes if (move := _see(stores, wish, why)) is not None]
    _tidy(stores)
    return Transfer(tuple(moves), **asdict(sent), notes=tuple(notes))


def _tidy(stores: RepositoryContext) -> None:
    """Merge small packs; errors are ignored, because the transfer is complete."""
    with suppress(VersionedZarrError, OSError):
        repack.tidy(stores)


def _selected(stores: RepositoryContext, source: RepositoryContext) -> PartialClone | None:
    """What a partial clone copies of its origin; of other repositories, it copies everything."""
    selection = read(stores.documents)
    return selection if selection and selection.origin == source.storage.url else None


def pull(
    stores: RepositoryContext,
    repository: Location,
    refs: str | Sequence[str] | None,
    *,
    resolve: Resolve,
    progress: OnProgress | None,
    options: ServerOptions | None = None,
) -> Transfer:
    """See `Repository.pull`."""
    pairs = [sides_of(text) for text in listed(refs)] or [(MAIN, MAIN)]
    name, source = _open(stores, repository, options)
    for ref, into in pairs:
        check_new_ref_name(into)
        if kind_at(source, ref)[0] != HEADS:
            raise InvalidRefError(f"{ref!r} is a tag; fetch and merge it instead", ref=ref)
    done = fetch(stores, repository, [ref for ref, _ in pairs], progress=progress, options=options)
    moves = list(done.moves)
    for ref, into in pairs:
        seen = f"{REMOTES}/{name or UNNAMED}/{ref.removeprefix(f'{HEADS}/')}"
        commit = resolve_commit(stores, seen)
        entry = stores.refs.read(HEADS, into)
        if entry is None or entry.commit is None:
            why = f"pull {ref} from {source.storage.url}"
            moves.append(move_ref(stores, HEADS, into, None, from_text(commit.cid), why))
            continue
        merged = rewrite.merge(
            stores,
            seen,
            into,
            f"Merge {ref!r} of {source.storage.url} into {into!r}",
            resolve,
            author=None,
            metadata=None,
        )
        if merged.cid != to_text(entry.commit):
            moves.append(RefMove(HEADS, into, to_text(entry.commit), merged.cid))
    return replace(done, moves=tuple(moves))


def _open(
    stores: RepositoryContext, repository: Location, options: ServerOptions | None
) -> tuple[str | None, RepositoryContext]:
    """The name of a remote, if it has one, and the repository."""
    remotes = Remotes(stores)
    if isinstance(repository, str) and repository in remotes:
        return repository, stores.open_other(remotes[repository], **(options or {}))
    opened = stores.open_other(repository, **(options or {}))
    return remotes.name_of(opened.storage.url), opened


def _check_forward(
    stores: RepositoryContext, target: RepositoryContext, wish: WantedRef, found: Cid
) -> None:
    """Refuse to move a tag, or to remove commits from a branch."""
    if wish.kind == TAGS:
        raise AlreadyExistsError(
            f"tag {wish.name!r} is at {to_text(found)} in {target.storage.url!r}, and a push "
            "does not move tags; to move it, use force_with_lease",
            name=wish.name,
        )
    try:
        is_forward = walk.is_ancestor(to_text(found), to_text(wish.commit), stores.commit)
    except BlockNotFoundError:
        is_forward = False  # a commit that is not here is not an ancestor of one that is
    if not is_forward and (target.others is None or target.commit(to_text(found)).parents):
        raise BranchMovedError(
            f"branch {wish.name!r} of {target.storage.url!r} is at {to_text(found)}, which is not "
            f"an ancestor of {to_text(wish.commit)}; pull first, or overwrite it with "
            "force_with_lease; nothing was sent",
            branch=wish.name,
            expected=to_text(wish.commit),
            found=to_text(found),
        )


def _check_lease(
    stores: RepositoryContext,
    target: RepositoryContext,
    remote: str | None,
    wish: WantedRef,
    found: Cid | None,
    lease: bool | str,
) -> None:
    """Make sure that nobody has moved a ref since this side last fetched it.

    Raises:
        BranchMovedError: it was moved.
        InvalidInputError: this side never fetched it.
    """
    expected: Cid | None = None
    if isinstance(lease, str):
        try:
            expected = from_text(lease)  # of a commit that may not be here
        except InvalidCidError:
            expected = from_text(resolve_commit(stores, lease).cid)
    elif found is not None:
        if remote is None or wish.kind != HEADS:
            raise InvalidInputError(
                f"the last seen position of {WORDS[wish.kind]} {wish.name!r} of "
                f"{target.storage.url!r} is unknown, since only branches of remotes have one: "
                f"give its expected commit as force_with_lease={to_text(found)!r}, or add a "
                "remote and fetch; nothing was sent"
            )
        entry = stores.refs.read(REMOTES, f"{remote}/{wish.name}")
        expected = None if entry is None else entry.commit
    if expected != found:
        shown = [None if cid is None else to_text(cid) for cid in (expected, found)]
        raise BranchMovedError(
            f"{WORDS[wish.kind]} {wish.name!r} of {target.storage.url!r} is at "
            f"{shown[1] or 'nothing'}, not at {shown[0] or 'nothing'} as the lease says; "
            "fetch, and look at the new commits; nothing was sent",
            branch=wish.name,
            expected=shown[0],
            found=shown[1],
        )


def _see(stores: RepositoryContext, wish: WantedRef, why: str) -> RefMove | None:
    """Record the commit of a ref in another repository."""
    while True:
        entry = stores.refs.read(wish.kind, wish.name)
        found = None if entry is None else entry.commit
        if found == wish.commit:
            return None
        try:
            return move_ref(stores, wish.kind, wish.name, found, wish.commit, why)
        except BranchMovedError:
            continue  # another fetch was first; its result is just as good
