"""Log queries: the commits of a ref, of a range of refs, or of a path."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.revisions import resolve_commit
from versioned_zarr.history import walk
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.log import Log, Names
from versioned_zarr.ipld.cid import Cid, from_text
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

    def content(commit: Commit) -> Cid | None:
        link = stores.trees.subtree(from_text(commit.tree), wanted)
        return None if link is None else link.cid

    def commits() -> Iterator[Commit]:
        found = walk.log_of_path(start, stores.commit, content)
        if known is None:
            return found
        between = set(walk.beyond([start], [known], stores.commit))
        return (commit for commit in found if commit.cid in between)

    return Log(commits, title=f"{wanted} in {ref}", names=names, is_linear=True)


def _commits(stores: RepositoryContext, start: str, known: str | None) -> Iterator[Commit]:
    if known is None:
        return walk.log([start], stores.commit)
    return map(stores.commit, walk.beyond([start], [known], stores.commit))
