"""Revisions: resolves text such as `main~2` to a commit or a tree.

The grammar is git's: NAME, NAME~N, NAME^N, BRANCH@{N}, NAME@{TIME}, and CIDs.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.errors import (
    BlockNotFoundError,
    CorruptBlockError,
    InvalidCidError,
    InvalidRefError,
    RefNotFoundError,
)
from versioned_zarr.history import walk
from versioned_zarr.history.commit_object import Commit, is_commit
from versioned_zarr.history.log_refs import may_be_ref
from versioned_zarr.history.ref_names import check_ref_name, looks_like_cid
from versioned_zarr.history.refs import HEADS, KINDS, REMOTES, TAGS
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid

SHORTEST_PREFIX = 8
_STEP = re.compile(r"~[0-9]{0,18}(?![0-9])|\^[0-9]{0,18}(?![0-9])|@\{[^{}]*\}")
_CURRENT = frozenset(("head", "@", "latest", "tip", "master", "trunk"))
"""Names that other tools give to the newest version."""
_NUMBERED = re.compile(r"@\{([0-9]{1,18})\}")


class ResolvedVersion(NamedTuple):
    """The result of resolving a ref: a tree, and the commit that it came from, if any."""

    tree: Cid
    commit: Commit | None


def resolve(stores: RepositoryContext, ref: str) -> ResolvedVersion:
    """Resolve text to a version.

    Args:
        stores: the repository.
        ref: a branch, a tag, `heads/NAME` or `tags/NAME` if both exist, `REMOTE/BRANCH` for a
            fetched branch (or `remotes/REMOTE/BRANCH`), the CID of a commit or of a tree, or a
            prefix of a commit's CID (8 characters or more). A commit may be followed by `~N` (N
            first parents back), `^N` (the Nth parent), `@{N}` (the commit of the branch N moves
            ago) or `@{TIME}` (ISO 8601, by default in UTC; a date means the end of that day).
            `@{TIME}` is the newest commit among it and its first parents that is not later, by
            the times of the commits, so that every clone returns the same; the log of a branch
            differs between clones, and is used by `@{N}`.

    Raises:
        InvalidRefError: the text cannot be parsed.
        RefNotFoundError: there is no such version.
    """
    found = _tree_or_commit(stores, ref)
    return (
        ResolvedVersion(cids.from_text(found.tree), found) if isinstance(found, Commit) else found
    )


def _tree_or_commit(stores: RepositoryContext, ref: str) -> ResolvedVersion | Commit:
    """A bare tree, or a commit, whose tree is not read."""
    if not ref or not isinstance(ref, str):
        raise InvalidRefError(f"a ref must be a string such as 'main', not {ref!r}", ref=str(ref))
    name, steps = _split(ref)
    if not steps:
        tree = _as_tree(stores, name)
        if tree is not None:
            return ResolvedVersion(tree, None)
    numbered = _NUMBERED.fullmatch(steps[0]) if steps else None
    if numbered is not None:
        commit = _from_reflog(stores, name, int(numbered[1]), ref)
        steps = steps[1:]
    else:
        commit = _named(stores, name, ref)
    for step in steps:
        commit = _follow(stores, commit, step, ref)
    return commit


def resolve_commit(stores: RepositoryContext, ref: str) -> Commit:
    """Resolve text to a commit, like `resolve`, but not to a bare tree.

    Raises:
        InvalidRefError: the text cannot be parsed, or names a bare tree.
        RefNotFoundError: there is no such commit.
    """
    found = _tree_or_commit(stores, ref)
    if isinstance(found, Commit):
        return found
    raise InvalidRefError(f"{ref!r} is a tree; a commit, branch or tag is needed here", ref=ref)


def compared(
    stores: RepositoryContext, base: str, other: str | None
) -> tuple[tuple[str, Cid], tuple[str, Cid]]:
    """The names and trees of the two sides of a diff; see `Repository.diff`.

    If there are several merge bases, one is used, as in git; if there is none, the empty tree.
    """
    if other is not None:
        return (base, resolve(stores, base).tree), (other, resolve(stores, other).tree)
    nothing = ("the empty tree", stores.empty_tree)
    left, dots, right = str(base).partition("...")
    if dots:
        ours, theirs = resolve_commit(stores, left), resolve_commit(stores, right)
        common = walk.merge_bases(ours.cid, theirs.cid, stores.commit)
        old = (common[0], cids.from_text(stores.commit(common[0]).tree)) if common else nothing
        return old, (right, cids.from_text(theirs.tree))
    left, dots, right = str(base).partition("..")
    if dots:
        return compared(stores, left, right)
    commit = resolve_commit(stores, base)
    old = nothing
    if commit.parents:
        parent = stores.commit(commit.parents[0])
        old = (parent.cid, cids.from_text(parent.tree))
    return old, (commit.cid, cids.from_text(commit.tree))


def _split(ref: str) -> tuple[str, list[str]]:
    found = re.search(r"[~^]|@\{", ref)
    if found is None:
        return ref, []
    name, rest = ref[: found.start()], ref[found.start() :]
    steps = [match.group() for match in _STEP.finditer(rest)]
    if not name or "".join(steps) != rest:
        raise InvalidRefError(
            f"cannot parse {ref!r}: only ~N, ^N, @{{N}} and @{{TIME}} may follow the name",
            ref=ref,
        )
    return name, steps


def _as_tree(stores: RepositoryContext, name: str) -> Cid | None:
    """The CID in a text if it names a tree that exists here."""
    cid = _whole_cid(name)
    if cid is None or cids.is_raw(cid) or not stores.has(cid):
        return None
    if is_commit(cid, stores.blocks):
        return None
    kind = unixfs.decode(stores.blocks.get(cid)).kind
    return cid if kind in (unixfs.UnixFsType.DIRECTORY, unixfs.UnixFsType.HAMT) else None


def _whole_cid(text: str) -> Cid | None:
    try:
        cid = cids.from_text(text)
    except InvalidCidError:
        return None
    return cid


def _named(stores: RepositoryContext, name: str, ref: str) -> Commit:
    cid = _whole_cid(name)
    if cid is not None:  # which is always the block with this hash, whatever refs are called
        if stores.is_commit(cid):
            return stores.commit(name)
        raise _not_found(stores, name, ref)
    found = {kind: stores.refs.read(kind, name) for kind in _kinds_of(name)}
    standing = [entry.commit for entry in found.values() if entry is not None and entry.commit]
    for kind in KINDS:
        if name.startswith(f"{kind}/"):
            entry = stores.refs.read(kind, name.removeprefix(f"{kind}/"))
            if entry is not None and entry.commit is not None:
                standing.append(entry.commit)
    if not standing and may_be_ref(REMOTES, name):
        entry = stores.refs.read(REMOTES, name)
        standing += [entry.commit] if entry is not None and entry.commit is not None else []
    if len(set(standing)) > 1:
        raise InvalidRefError(
            f"{name!r} is both a branch and a tag; use 'heads/{name}' or 'tags/{name}'", ref=ref
        )
    if standing:
        return stores.commit(cids.to_text(standing[0]))
    if stores.others is not None and (theirs := stores.others.named(name)) is not None:
        return stores.commit(cids.to_text(theirs))
    if len(name) >= SHORTEST_PREFIX:
        commit = _by_prefix(stores, name, ref)
        if commit is not None:
            return commit
    raise _not_found(stores, name, ref)


def _kinds_of(name: str) -> tuple[str, ...]:
    try:
        check_ref_name(name)
    except InvalidRefError:
        return ()
    return HEADS, TAGS


def _by_prefix(stores: RepositoryContext, prefix: str, ref: str) -> Commit | None:
    """The one commit whose CID has this prefix. O(history)."""
    if not looks_like_cid(prefix):
        return None
    matches = [cid for cid in reached_commits(stores) if cid.startswith(prefix)]
    if len(matches) > 1:
        raise InvalidRefError(
            f"{prefix!r} is ambiguous: {len(matches)} commits begin with it; give more characters",
            ref=ref,
        )
    return stores.commit(matches[0]) if matches else None


def known_commits(stores: RepositoryContext) -> list[str]:
    """The CIDs of the commits that branches and tags name or named."""
    found: dict[Cid, None] = {}
    for kind in KINDS:
        for name in stores.refs.names(kind, deleted=True):
            for entry in stores.refs.history(kind, name, readable=True):
                if entry.commit is not None:
                    found[entry.commit] = None
    gone = set(stores.blocks.missing([cid for cid in found if cid not in stores.blocks]))
    return [cids.to_text(cid) for cid in found if cid not in gone]


def reached_commits(stores: RepositoryContext) -> Iterator[str]:
    """The CIDs of all commits that the refs and their logs reach, if they can be read."""
    seen: set[str] = set()
    left = known_commits(stores)
    while left:
        cid = left.pop()
        if cid in seen:
            continue
        seen.add(cid)
        with suppress(BlockNotFoundError, CorruptBlockError):
            left += stores.commit(cid).parents
            yield cid


def _from_reflog(stores: RepositoryContext, name: str, number: int, ref: str) -> Commit:
    check_ref_name(name)
    count, entry = 0, None
    for each in dict.fromkeys((name, name.removeprefix(f"{HEADS}/"))):
        if entry is None:
            moves = islice(stores.refs.history(HEADS, each), number + 1)
            for count, entry in enumerate(moves, 1):  # noqa: B007 - only the last values are used
                pass
    if entry is None:
        raise _not_found(stores, name, ref)
    if count <= number:
        raise RefNotFoundError(f"the log of {name!r} has only {count} entries", ref=ref)
    commit = entry.commit
    if commit is None:
        raise RefNotFoundError(
            f"{name!r} was deleted then; '{name}@{{{number + 1}}}' is its last commit before that",
            ref=ref,
        )
    return stores.commit(cids.to_text(commit))


def _follow(stores: RepositoryContext, commit: Commit, step: str, ref: str) -> Commit:
    if step.startswith("@{"):
        return _as_of(stores, commit, step[2:-1], ref)
    number = int(step[1:] or "1")
    if step.startswith("~"):
        for _ in range(number):
            commit = _parent(stores, commit, 1, ref)
        return commit
    return commit if number == 0 else _parent(stores, commit, number, ref)


def _parent(stores: RepositoryContext, commit: Commit, number: int, ref: str) -> Commit:
    if number > len(commit.parents):
        raise RefNotFoundError(
            f"{ref!r} goes back too far: commit {commit.cid} has {len(commit.parents)} parents",
            ref=ref,
        )
    return stores.commit(commit.parents[number - 1])


def _as_of(stores: RepositoryContext, commit: Commit, text: str, ref: str) -> Commit:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRefError(
            f"cannot parse the time in {ref!r}: {error}; write it as 2026-01-31T12:00", ref=ref
        ) from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if re.fullmatch(r"\d{4}-?\d\d-?\d\d", text):
        moment = moment.replace(hour=23, minute=59, second=59, microsecond=999999)
    for ancestor in walk.first_parents(commit.cid, stores.commit):
        if ancestor.time <= moment:
            return ancestor
    raise RefNotFoundError(f"{ref!r} is before the first commit", ref=ref)


def _not_found(stores: RepositoryContext, name: str, ref: str) -> RefNotFoundError:
    names = stores.refs.names(HEADS) + stores.refs.names(TAGS)
    near = difflib.get_close_matches(name, names, n=1)
    hint = ""
    if near:
        hint = f"; did you mean {near[0]!r}?"
    elif name.lower() in _CURRENT and names:
        hint = f"; there is no current branch: name one, such as {names[0]!r}"
    return RefNotFoundError(f"{ref!r} not found in {stores.storage.url!r}{hint}", ref=ref)
