"""Log queries: the commits of a ref, of a range of refs, or of a path, and of each chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.blame import Blame, blame_of
from versioned_zarr.engine.hierarchy.renames import moved_from
from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNodes
from versioned_zarr.engine.revisions import resolve_commit
from versioned_zarr.errors import InvalidRefError, KeyNotFoundError
from versioned_zarr.history import walk
from versioned_zarr.history.bisection import first_bad
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.log import Log, Names
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.tree.diff_tree import changes
from versioned_zarr.tree.keys import check_key, check_text


def log_of(
    stores: RepositoryContext, ref: str, path: str | None, names: Callable[[], Names]
) -> Log:
    """See `Repository.log`; `names` returns the branches and tags by commits."""
    before, dots, end = str(ref).partition("..")
    start = resolve_commit(stores, end if dots else ref).cid
    known = resolve_commit(stores, before).cid if dots else None
    if path is None:
        return Log(lambda: _commits(stores, start, known), title=ref, names=names)
    check_text(path)
    wanted = path.strip("/")
    if wanted:
        check_key(wanted)

    def commits() -> Iterator[Commit]:
        found = _of_path(stores, start, wanted)
        if known is None:
            return found
        between = set(walk.beyond([start], [known], stores.commit))
        return (commit for commit in found if commit.cid in between)

    return Log(commits, title=f"{wanted} in {ref}", names=names, is_linear=True)


def _of_path(stores: RepositoryContext, start: str, path: str) -> Iterator[Commit]:
    """The commits that changed a path, and before a move those that changed the earlier path."""

    def content(commit: Commit, at: str) -> Cid | None:
        link = stores.trees.subtree(from_text(commit.tree), at)
        return None if link is None else link.cid

    def before(parent: Commit, commit: Commit, at: str) -> str | None:
        return moved_from(stores.trees, from_text(parent.tree), from_text(commit.tree), at)

    return walk.log_of_path(start, stores.commit, path, content, before)


def array_blame(stores: RepositoryContext, path: str, ref: str) -> Blame:
    """See `Repository.blame`."""
    check_text(path)
    path = path.strip("/")
    start, trees = resolve_commit(stores, ref), stores.trees
    root = from_text(start.tree)

    def read(key: str) -> bytes | None:
        link = trees.find(root, key)
        return None if link is None else stores.read_link(link)

    node = ZarrNodes(read).at(path)
    if node is None or not node.is_array or node.grid_shape is None:
        raise KeyNotFoundError(
            f"no array with a regular chunk grid at {path!r} in {ref!r}; check the path",
            key=path,
        )

    folder = trees.subtree(root, path)
    keys = () if folder is None else (key for key, _ in trees.walk(folder.cid))
    return blame_of(node, keys, walk.log([start.cid], stores.commit), _StoredHistory(stores))


class _StoredHistory:
    """See `versioned_zarr.engine.hierarchy.blame.ArrayHistory`."""

    def __init__(self, stores: RepositoryContext) -> None:
        self._stores, self._trees = stores, stores.trees

    def parents(self, commit: Commit) -> Sequence[Commit]:
        """See `ArrayHistory`."""
        return [self._stores.commit(cid) for cid in commit.parents]

    def content(self, commit: Commit, path: str) -> Cid | None:
        """See `ArrayHistory`."""
        link = self._trees.subtree(from_text(commit.tree), path)
        return None if link is None or not self._trees.is_directory(link) else link.cid

    def earlier_path(self, parent: Commit, commit: Commit, path: str) -> str | None:
        """See `ArrayHistory`: elsewhere only if nothing is at the path in the parent."""
        old = from_text(parent.tree)
        if self._trees.subtree(old, path) is not None:
            return path
        return moved_from(self._trees, old, from_text(commit.tree), path)

    def changed(self, old: Cid, new: Cid) -> Iterable[str]:
        """See `ArrayHistory`."""
        return (change.key for change in changes(self._trees, old, new))


def bisected(
    stores: RepositoryContext, good: str, bad: str, is_good: Callable[[Commit], bool]
) -> Commit:
    """See `Repository.bisect`."""
    first, last = resolve_commit(stores, good).cid, resolve_commit(stores, bad).cid
    between = list(map(stores.commit, walk.beyond([last], [first], stores.commit)))
    if not between:
        raise InvalidRefError(
            f"{good!r} contains {bad!r}, so no commit between them can be bad; pass the older one "
            "first",
            ref=bad,
        )
    wanted = {commit.cid for commit in between}
    ordered = [commit for commit in walk.log([last], stores.commit) if commit.cid in wanted]
    return first_bad(ordered, last, is_good)


def _commits(stores: RepositoryContext, start: str, known: str | None) -> Iterator[Commit]:
    if known is None:
        return walk.log([start], stores.commit)
    return map(stores.commit, walk.beyond([start], [known], stores.commit))
