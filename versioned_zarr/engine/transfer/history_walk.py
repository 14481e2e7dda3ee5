"""The history walk: which commits and blocks one repository has that another lacks.

Only the refs of a side show what it has completely: a block may be a remnant of an interrupted
transfer or of `gc`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.transfer.missing_objects import Get, MissingBlock, MissingObjects
from versioned_zarr.errors import BlockNotFoundError, InvalidInputError, KeyNotFoundError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.refs import KINDS
from versioned_zarr.history.walk import Reader
from versioned_zarr.ipld.cid import Cid, from_text, is_foreign, to_text
from versioned_zarr.tree.dag import ResolvedPath, resolve
from versioned_zarr.tree.dag_nodes import links_of

_DOCUMENTS = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")


def tips(stores: RepositoryContext) -> list[str]:
    """Our commits that refs name now: everything that they reach is here."""
    found: dict[str, None] = {}
    for kind in KINDS:
        for name in stores.refs.names(kind):
            entry = stores.refs.read(kind, name)
            if entry is not None and entry.commit is not None and not is_foreign(entry.commit):
                found[to_text(entry.commit)] = None
    return list(found)


def either(source: RepositoryContext, target: RepositoryContext) -> Callable[[str], Commit]:
    """Reads commits from one of two repositories, if possible from the one that is local."""
    is_far = source.blocks.is_remote and not target.blocks.is_remote
    first, second = (target, source) if is_far else (source, target)

    def read(cid: str) -> Commit:
        if is_foreign(from_text(cid)):
            raise InvalidInputError(
                f"commit {cid} of {source.storage.url!r} was made with another tool and cannot be "
                "sent; commit on top of it with allow_empty=True, and send that commit"
            )
        try:
            found = first.commit(cid)
        except BlockNotFoundError:
            found = second.commit(cid)
        parents = parents_of(found)
        return found if parents == found.parents else replace(found, parents=parents)

    return read


def parents_of(commit: Commit) -> tuple[str, ...]:
    """The parents of a commit that can be sent; commits of another system cannot."""
    return tuple(parent for parent in commit.parents if not is_foreign(from_text(parent)))


def commit_blocks(
    stores: RepositoryContext,
    novelty: MissingObjects,
    cid: str,
    *,
    beside: Collection[str] | None = None,
    paths: Sequence[str] = (),
) -> Iterator[MissingBlock]:
    """Yield the new blocks of a commit and of its tree, not those of its parents.

    The tree is compared with those of the parents, which the other side has or will have.

    Args:
        stores: the repository with the commit.
        novelty: the walk that this is part of.
        cid: the commit.
        beside: the only parents whose trees the other side has; None for all.
        paths: the only paths of the tree to include; none for all.
    """
    commit, name = stores.commit(cid), from_text(cid)
    trees = [
        from_text(stores.commit(parent).tree)
        for parent in parents_of(commit)
        if beside is None or parent in beside
    ]
    own = list(_own_blocks(novelty, name))
    if novelty.parents_first:
        yield from own
    if paths:
        yield from blocks_of_paths(novelty, from_text(commit.tree), trees, paths)
    else:
        yield from novelty.blocks(from_text(commit.tree), trees)
    if not novelty.parents_first:
        yield from reversed(own)
    novelty.complete.add(name)


def _own_blocks(novelty: MissingObjects, cid: Cid) -> Iterator[MissingBlock]:
    """The blocks of a commit itself, the root first."""
    block = novelty.get(cid)
    yield MissingBlock(cid, block, len(block), is_value=False)
    for link in links_of(cid, block):
        if link.name == "parents":
            block = novelty.get(link.cid)
            yield MissingBlock(link.cid, block, len(block), is_value=False)
        elif link.name == "commit.json":
            yield from (found._replace(is_value=False) for found in novelty.blocks(link.cid))


def newest(starts: Sequence[str], known: Sequence[str], depth: int, read: Reader) -> list[str]:
    """The commits at most `depth` steps back from the starts, except the known ones."""
    found: dict[str, float] = {}
    level = [cid for cid in starts if cid not in known]
    for _ in range(depth):
        following: list[str] = []
        for cid in level:
            if cid not in found:
                commit = read(cid)
                found[cid] = commit.time.timestamp()
                following += [parent for parent in commit.parents if parent not in known]
        level = following
    return sorted(found, key=lambda cid: -found[cid])


def blocks_of_paths(
    novelty: MissingObjects, tree: Cid, older: Sequence[Cid], paths: Sequence[str]
) -> Iterator[MissingBlock]:
    """The new blocks of some paths in a tree, of their ancestors, and of the documents of these."""
    yield from _block(novelty, tree)
    for path in paths:
        parts = path.split("/")
        way = _resolve(novelty.get, tree, parts)
        if way is None:
            continue
        for cid in way.blocks:
            yield from _block(novelty, cid)
        before = [there.end for old in older if (there := _resolve(novelty.get, old, parts))]
        yield from novelty.blocks(way.end, before)
        for folder in way.roots[:-1]:
            for name in _DOCUMENTS:
                document = _resolve(novelty.get, folder, [name])
                if document is not None:
                    for cid in document.blocks:
                        yield from _block(novelty, cid)
                    yield from novelty.blocks(document.end)


def has_path(get: Get, tree: Cid, path: str) -> bool:
    """Whether anything exists at a path."""
    return _resolve(get, tree, path.split("/")) is not None


def _block(novelty: MissingObjects, cid: Cid) -> Iterator[MissingBlock]:
    block = novelty.get(cid)
    yield MissingBlock(cid, block, len(block), is_value=False)


def _resolve(get: Get, root: Cid, parts: Sequence[str]) -> ResolvedPath | None:
    try:
        return resolve(get, root, parts)
    except KeyNotFoundError:
        return None
