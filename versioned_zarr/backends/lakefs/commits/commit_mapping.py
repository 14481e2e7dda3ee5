"""The commit mapping: maps every lakeFS commit to a commit object.

Commits made by this package are decoded from their metadata. Commits made by other tools are named
by their lakeFS commit ID, and the CID of their tree is computed on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from versioned_zarr.backends.lakefs.api.client import LakefsCommit
from versioned_zarr.backends.lakefs.commits import commit_metadata
from versioned_zarr.backends.lakefs.commits.commit_metadata import CommitMetadata, ParentMetadata
from versioned_zarr.backends.lakefs.lakefs_folder import LakefsFolder
from versioned_zarr.backends.lakefs.lakefs_names import is_id, to_branch, to_cid, to_id
from versioned_zarr.errors import BlockNotFoundError, RefNotFoundError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.lru_cache import LruCache

_REMEMBERED = 4096
_PAGE = 100
_HOOKS = "_lakefs_actions/"


class ForeignCommit(Commit):
    """A commit made by another tool, whose tree is computed on first use."""

    def __init__(
        self, found: LakefsCommit, parents: tuple[str, ...], tree: Callable[[], Link]
    ) -> None:
        values = {
            "cid": to_text(to_cid(found.id)),
            "parents": parents,
            "author": found.committer,
            "time": datetime.fromtimestamp(found.creation_date, UTC),
            "message": found.message,
            "metadata": dict(found.metadata),
            "_find_tree": tree,
        }
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name != "tree":
            raise AttributeError(name)
        tree = to_text(self.__dict__["_find_tree"]().cid)
        self.__dict__["tree"] = tree
        return tree

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.cid, self.tree, self.parents, self.author, self.time, self.message)
        return Commit, (*fields, self.metadata)


class CommitMapping:
    """See the module; also a `ForeignCommits`. Thread-safe.

    Args:
        lakefs_folder: the folder of the repository.
        tree_of: computes the tree of a lakeFS commit.
    """

    def __init__(self, lakefs_folder: LakefsFolder, tree_of: Callable[[str], Link]) -> None:
        self._lakefs_folder, self._client, self._metadata_cache = (
            lakefs_folder,
            lakefs_folder.client,
            lakefs_folder.metadata_cache,
        )
        self._tree_of = tree_of
        self._seen: LruCache[str, LakefsCommit] = LruCache(_REMEMBERED)

    def take(self, found: LakefsCommit) -> CommitMetadata | None:
        """Record a lakeFS commit; returns the commit of ours that it represents, if any."""
        ours = self._read(self._meant(found))
        if ours is not None and found.id not in self._seen:
            self.learn(ours, found.id)
        self._seen.put(found.id, found)  # if this is interrupted, it is recorded next time
        return ours

    def _meant(self, found: LakefsCommit) -> LakefsCommit:
        """The lakeFS commit that one represents: usually itself."""
        same = commit_metadata.same_as(found, self._lakefs_folder.prefix)
        while same is not None:
            found = self.find(same)
            same = commit_metadata.same_as(found, self._lakefs_folder.prefix)
        return found

    def _read(self, found: LakefsCommit) -> CommitMetadata | None:
        parent = found.parents[0] if found.parents else None
        lakefs_folder = self._lakefs_folder
        ours = commit_metadata.decode(
            found.message, found.metadata, parent, lakefs_folder.prefix, lakefs_folder.hash
        )
        return (
            commit_metadata.first(found, lakefs_folder.hash)
            if ours is None and parent is None
            else ours
        )

    def learn(self, ours: CommitMetadata, commit: str) -> None:
        """Record that a lakeFS commit represents one of ours."""
        metadata_cache = self._metadata_cache
        metadata_cache.add_nodes(ours.blocks)
        metadata_cache.add_commit(from_text(ours.commit.cid), commit)
        metadata_cache.add_tree(commit, ours.tree)
        for parent in ours.parents:
            if parent.id:
                metadata_cache.add_commit(from_text(parent.cid), parent.id)

    def find(self, commit: str) -> LakefsCommit:
        """The lakeFS commit with this id; one request also fetches its ancestors.

        Raises:
            RefNotFoundError: it does not exist.
        """
        found = self._seen.get(commit)
        for each in self._page(commit) if found is None else ():
            self.take(each)
            found = each if each.id == commit else found
        if found is None:
            raise RefNotFoundError(f"commit {commit!r} is not in its own history", ref=commit)
        return found

    def _page(self, commit: str) -> Iterator[LakefsCommit]:
        for number, each in enumerate(self._client.log(commit, amount=_PAGE), 1):
            yield each
            if number == _PAGE:
                return

    def cid_of(self, found: LakefsCommit) -> Cid:
        """The CID of the commit that a lakeFS commit represents."""
        ours = self.take(found)
        return to_cid(self._meant(found).id) if ours is None else from_text(ours.commit.cid)

    def read(self, found: LakefsCommit) -> Commit:
        """The commit that a lakeFS commit represents."""
        ours = self.take(found)
        if ours is not None:
            return ours.commit
        found = self._meant(found)
        parents = tuple(to_text(self.cid_of(self.find(each))) for each in found.parents)
        return ForeignCommit(found, parents, lambda: self._tree_of(found.id))

    def commit(self, cid: Cid) -> Commit:
        """See `ForeignCommits.commit`."""
        commit = to_id(cid)
        try:
            if commit is None:
                raise RefNotFoundError("not the name of a lakeFS commit")
            return self.read(self.find(commit))
        except RefNotFoundError as error:
            text = to_text(cid)
            raise BlockNotFoundError(f"commit {text}: {error}", cid=text) from error

    def named(self, text: str) -> Cid | None:
        """See `ForeignCommits.named`: a lakeFS commit id, or a prefix of 8 characters or more."""
        if not is_id(text):
            return None
        try:
            return self.cid_of(self._client.resolve(text))
        except RefNotFoundError:
            return None

    def may_move(self, branch: str, to: Cid) -> bool:
        """See `ForeignCommits.may_move`: not if protection rules or hooks apply; few requests."""
        target, commit = to_branch(branch), self.id_of(to)
        refs = [target] if commit is None else [target, commit]
        return not self._client.is_protected(target) and not any(map(self._has_hooks, refs))

    def _has_hooks(self, ref: str) -> bool:
        return any(True for _ in self._client.list(ref, _HOOKS))

    def id_of(self, cid: Cid) -> str | None:
        """The lakeFS commit that represents a commit; None if none is known."""
        return to_id(cid) or self._metadata_cache.id_of(cid)

    def has(self, cid: Cid) -> bool:
        """Whether a CID is that of an existing lakeFS commit."""
        try:
            return bool(self.commit(cid))
        except BlockNotFoundError:
            return False

    def parent_at(self, cid: Cid, tsize: int) -> ParentMetadata:
        """A commit as a parent of another."""
        return ParentMetadata(to_text(cid), tsize, self.id_of(cid) or "")

    def search(self, is_found: Callable[[], bool]) -> bool:
        """Read the histories of all branches until something is found. O(history)."""
        for _, head in self._client.branches():
            for found in self._client.log(head):
                self.take(found)
                if is_found():
                    return True
        return False
