"""A client of one lakeFS repository: the calls that this backend needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import quote

from versioned_zarr.backends.lakefs.api.api_errors import (
    AnswerLateError,
    AnswerLostError,
    RefusedError,
)
from versioned_zarr.backends.lakefs.api.objects import Objects, Stat
from versioned_zarr.backends.lakefs.api.sdk_transport import PAGE, Query
from versioned_zarr.errors import AlreadyExistsError, RefNotFoundError, RepositoryNotFoundError

ATTEMPTS = 6
"""The number of attempts if responses are lost."""


def pauses(error: AnswerLostError) -> tuple[float, ...]:
    """The pauses between checks whether a request was executed, in seconds."""
    return (0.5, 1.0, 2.0, 4.0, 8.0) if isinstance(error, AnswerLateError) else (0.02,)


class LakefsCommit(NamedTuple):
    """A commit of lakeFS.

    Attributes:
        id: 64 hexadecimal digits.
        parents: the ids of the parents.
        committer: who committed it.
        message: the commit message.
        creation_date: the time, in seconds since 1970.
        metadata: the metadata of the commit.
    """

    id: str
    parents: tuple[str, ...]
    committer: str
    message: str
    creation_date: int
    metadata: Mapping[str, str]


class PathChange(NamedTuple):
    """A path that differs.

    Attributes:
        path: the path.
        kind: "added", "removed", "changed", or "conflict".
        told: the object on the newer side, without its address; None if the response omits it.
        size: the size of the object on the newer side in bytes; 0 if there is none.
    """

    path: str
    kind: str
    told: Stat | None = None
    size: int = 0


class LakefsClient(Objects):
    """One repository of a lakeFS server; see `Transport`."""

    # The repository

    def exists(self) -> bool:
        """Whether there is a repository of this name.

        Checks its branches, because every repository has one: lakeFS returns the repository itself
        for some seconds after it was deleted.
        """
        try:
            return next(self.branches(), None) is not None
        except RefNotFoundError:
            return False

    def check_exists(self) -> None:
        """Make sure that the repository exists.

        Raises:
            RepositoryNotFoundError: it does not exist.
        """
        if not self.exists():
            url = f"lakefs://{self.repository}"
            raise RepositoryNotFoundError(
                f"no repository {self.repository!r} on lakeFS at {self.endpoint}: it was deleted "
                f"or never existed; vz.create({url!r}) creates one",
                url=url,
            )

    def create_repository(self, storage_namespace: str, default_branch: str = "main") -> None:
        """Create the repository.

        Raises:
            AlreadyExistsError: a repository of this name already exists.
        """
        document = {
            "name": self.repository,
            "storage_namespace": storage_namespace,
            "default_branch": default_branch,
        }
        what = f"create the repository {self.repository!r} at {storage_namespace!r}"
        _make_surely(
            lambda: self.ask("POST", "/repositories", what, document=document, is_repeatable=False)
        )

    def default_namespace(self) -> str | None:
        """The default storage namespace of a new repository; None if the server has none."""
        prefix = str(self.storage_config().get("default_namespace_prefix") or "")
        scheme, _, rest = prefix.partition("://")
        if not scheme or (not rest.strip("/") and scheme != "local"):
            return None
        return f"{scheme}://{rest}/{self.repository}" if rest else f"{scheme}://{self.repository}"

    # Branches and tags

    def head(self, branch: str) -> str:
        """The head of a branch.

        Raises:
            RefNotFoundError: there is no such branch.
        """
        path = self.within(f"/branches/{quote(branch, safe='')}")
        return self.get("GET", path, f"read branch {branch!r}", _commit_id)

    def branches(self, prefix: str = "", *, hidden: bool = False) -> Iterator[tuple[str, str]]:
        """The names of branches and their heads; includes hidden branches on request."""
        query: Query = {"prefix": prefix, "show_hidden": hidden}
        return self.pages(self.within("/branches"), "list branches", _ref, query)

    def create_branch(self, name: str, source: str, *, hidden: bool = False) -> None:
        """Create a branch at a ref; of concurrent calls, one wins.

        Raises:
            AlreadyExistsError: a branch of this name already exists.
        """
        document = {"name": name, "source": source, "hidden": hidden}
        what = f"create branch {name!r} at {source!r}"
        self.ask("POST", self.within("/branches"), what, document=document, is_repeatable=False)

    def make_own_branch(self, name: str, source: str) -> None:
        """Create a hidden branch with a unique name, even if a response is lost."""
        _make_surely(lambda: self.create_branch(name, source, hidden=True))

    def delete_branch(self, name: str) -> None:
        """Delete a branch, including its uncommitted changes."""
        path = self.within(f"/branches/{quote(name, safe='')}")
        self.ask("DELETE", path, f"delete branch {name!r}")

    def hard_reset(self, branch: str, to: str) -> None:
        """Reset one of our hidden branches to another commit; uncommitted changes on it are kept.

        Never for a branch that others may move: lakeFS does not compare its current head.
        """
        path = self.within(f"/branches/{quote(branch, safe='')}/hard_reset")
        what = f"move branch {branch!r} to {to!r}"
        self.ask("PUT", path, what, query={"ref": to}, is_repeatable=False)

    def merge_base(self, source: str, into: str) -> str:
        """The merge base that lakeFS would use to merge a ref into a branch."""
        path = self.within(f"/refs/{quote(source, safe='')}/merge/{quote(into, safe='')}")
        what = f"find the merge base of {source!r} and {into!r}"
        return self.get("GET", path, what, lambda found: str(found["base_commit_id"]))

    def is_protected(self, branch: str) -> bool:
        """Whether a rule protects a branch, as far as these credentials can read the rules."""
        path = self.within("/settings/branch_protection")
        try:
            patterns = self.get("GET", path, "read the rules that protect branches", _patterns)
        except RefusedError:
            return False
        # Alternatives in a glob, such as {a,b}, are not evaluated: they count as a match.
        return any("{" in each or fnmatchcase(branch, each) for each in patterns)

    def tags(self) -> Iterator[tuple[str, str]]:
        """The names of tags and their commits."""
        return self.pages(self.within("/tags"), "list tags", _ref, {})

    def tag(self, name: str) -> str:
        """The commit of a tag.

        Raises:
            RefNotFoundError: there is no such tag.
        """
        path = self.within(f"/tags/{quote(name, safe='')}")
        return self.get("GET", path, f"read tag {name!r}", _commit_id)

    def create_tag(self, name: str, ref: str) -> None:
        """Create a tag.

        Raises:
            AlreadyExistsError: a tag of this name already exists.
        """
        document = {"id": name, "ref": ref}
        what = f"create tag {name!r} at {ref!r}"
        self.ask("POST", self.within("/tags"), what, document=document, is_repeatable=False)

    def delete_tag(self, name: str) -> None:
        """Delete a tag."""
        path = self.within(f"/tags/{quote(name, safe='')}")
        self.ask("DELETE", path, f"delete tag {name!r}", is_repeatable=False)

    # Commits

    def resolve(self, ref: str) -> LakefsCommit:
        """The commit of a lakeFS ref expression: a branch, a tag, an id or a prefix of one.

        Raises:
            RefNotFoundError: it does not exist.
        """
        path = self.within(f"/commits/{quote(ref, safe='')}")
        return self.get("GET", path, f"read commit {ref!r}", _commit)

    def log(
        self, ref: str, *, amount: int = PAGE, first_parent: bool = False
    ) -> Iterator[LakefsCommit]:
        """The commits that a ref reaches, newest first, lazy, `amount` per request."""
        query = {"first_parent": first_parent}
        path = self.within(f"/refs/{quote(ref, safe='')}/commits")
        return self.pages(path, f"read the log of {ref!r}", _commit, query, amount)

    def commit(
        self,
        branch: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        allow_empty: bool = False,
    ) -> LakefsCommit:
        """Commit the uncommitted changes of a branch."""
        document = {"message": message, "metadata": dict(metadata), "allow_empty": allow_empty}
        path = self.within(f"/branches/{quote(branch, safe='')}/commits")
        what = f"commit to branch {branch!r}"
        return self.get("POST", path, what, _commit, document=document, is_repeatable=False)

    def commit_surely(
        self,
        branch: str,
        message: str,
        metadata: Mapping[str, str],
        is_ours: Callable[[LakefsCommit], bool],
    ) -> LakefsCommit:
        """Commit on one of our hidden branches exactly once, even if a response is lost.

        Args:
            branch: see `commit`, also for the others.
            message: see there.
            metadata: see there.
            is_ours: returns whether the head of the branch is the commit that was requested.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return self.commit(branch, message, metadata, allow_empty=True)
            except AnswerLostError as error:
                for pause_s in pauses(error):
                    time.sleep(pause_s)
                    found = self.resolve(self.head(branch))
                    if is_ours(found):
                        return found
                if isinstance(error, AnswerLateError):
                    raise
        return self.commit(branch, message, metadata, allow_empty=True)

    def merge(
        self,
        source: str,
        into: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        squash: bool = False,
        allow_empty: bool = False,
    ) -> str:
        """Merge a ref into a branch; returns the id of the merge commit.

        Raises:
            ConflictError: both sides changed the same paths.
            RefusedError: a hook or a protection rule rejected it.
            StorageError: the branch has uncommitted changes.
        """
        document = {
            "message": message,
            "metadata": dict(metadata),
            "squash_merge": squash,
            "allow_empty": allow_empty,
        }
        path = self.within(f"/refs/{quote(source, safe='')}/merge/{quote(into, safe='')}")
        what = f"merge {source!r} into {into!r}"
        return self.get("POST", path, what, _reference, document=document, is_repeatable=False)

    def diff(
        self, left: str, right: str, *, prefix: str = "", with_stats: bool = False
    ) -> Iterator[PathChange]:
        """The paths that differ between two refs, on request with the objects on the right."""
        path = self.within(f"/refs/{quote(left, safe='')}/diff/{quote(right, safe='')}")
        query: Query = {"type": "two_dot", "prefix": prefix}
        if with_stats:
            query = {**query, "include_right_stats": True}
        return self.pages(path, f"compare {left!r} and {right!r}", _change, query)

    def uncommitted(self, branch: str, *, prefix: str = "") -> Iterator[PathChange]:
        """The uncommitted changes of a branch by path."""
        path = self.within(f"/branches/{quote(branch, safe='')}/diff")
        what = f"list uncommitted changes on {branch!r}"
        return self.pages(path, what, _change, {"prefix": prefix})


def _make_surely(make: Callable[[], None]) -> None:
    """Create something; repeats the request while the outcome is unknown.

    Raises:
        AlreadyExistsError: it already existed.
    """
    for attempt in range(ATTEMPTS):
        try:
            make()
            return
        except AlreadyExistsError:
            if attempt:
                return
            raise
        except AnswerLostError:
            if attempt == ATTEMPTS - 1:
                raise


def _ref(found: Mapping[str, Any]) -> tuple[str, str]:
    return str(found["id"]), str(found["commit_id"])


def _commit_id(found: Mapping[str, Any]) -> str:
    return str(found["commit_id"])


def _reference(found: Mapping[str, Any]) -> str:
    return str(found["reference"])


def _patterns(found: Any) -> list[str]:
    return [str(rule["pattern"]) for rule in found]


def _commit(found: Mapping[str, Any]) -> LakefsCommit:
    return LakefsCommit(
        found["id"],
        tuple(found["parents"]),
        found["committer"],
        found["message"],
        found["creation_date"],
        found.get("metadata") or {},
    )


def _change(found: Mapping[str, Any]) -> PathChange:
    right = found.get("right")
    if found["type"] == "removed":
        return PathChange(found["path"], found["type"])
    path, size = found["path"], found.get("size_bytes") or 0
    if right is None:
        return PathChange(path, found["type"], None, size)
    told = Stat(path, size, right["checksum"], right["mtime"], right.get("metadata") or {}, "")
    return PathChange(path, found["type"], told, size)
