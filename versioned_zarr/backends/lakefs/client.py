"""What lakeFS can do with a repository, as far as this backend asks it to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from versioned_zarr.backends.lakefs.failures import (
    AnswerLostError,
    PreconditionFailedError,
    failure,
)
from versioned_zarr.backends.lakefs.transport import PAGE, Query, Transport
from versioned_zarr.errors import (
    AlreadyExistsError,
    KeyNotFoundError,
    RefNotFoundError,
    StorageError,
)
from versioned_zarr.storage import Bytes

__all__ = [
    "AnswerLostError",
    "Change",
    "LakefsClient",
    "LakefsCommit",
    "PreconditionFailedError",
    "Stat",
]

DIRECT_BYTES = 1 << 20
"""Values of this length and more go straight to and from the object store, where lakeFS signs URLs
for that: three requests instead of one to write, two to read."""
_ATTEMPTS = 6
_META = "x-lakefs-meta-"


class Stat(NamedTuple):
    """An object.

    Attributes:
        path: where it lies in the lakeFS repository.
        size: its length in bytes.
        checksum: what lakeFS tells its content by.
        mtime: when it was written, in seconds since 1970.
        metadata: its user metadata.
        physical_address: where lakeFS stores it.
    """

    path: str
    size: int
    checksum: str
    mtime: int
    metadata: Mapping[str, str]
    physical_address: str


class LakefsCommit(NamedTuple):
    """A commit of lakeFS.

    Attributes:
        id: 64 hexadecimal digits.
        parents: the ids of those before it.
        committer: who made it.
        message: why.
        creation_date: when, in seconds since 1970.
        metadata: what was given with it.
    """

    id: str
    parents: tuple[str, ...]
    committer: str
    message: str
    creation_date: int
    metadata: Mapping[str, str]


class Change(NamedTuple):
    """A path that differs.

    Attributes:
        path: which.
        kind: "added", "removed", "changed", or "conflict".
    """

    path: str
    kind: str


class _NotDirectError(Exception):
    """The object store behind lakeFS cannot be used directly."""


class LakefsClient(Transport):
    """One repository of a lakeFS server; see `Transport`."""

    _is_direct: bool | None = None

    # The repository

    def exists(self) -> bool:
        """Whether there is a repository of this name."""
        what = f"look for the repository {self.repository!r}"
        try:
            self.ask("GET", self.within(""), what)
        except RefNotFoundError:
            return False
        return True

    def create_repository(self, storage_namespace: str, default_branch: str = "main") -> None:
        """Make the repository."""
        document = {
            "name": self.repository,
            "storage_namespace": storage_namespace,
            "default_branch": default_branch,
        }
        what = f"create the repository {self.repository!r} at {storage_namespace!r}"
        self.ask("POST", "/repositories", what, document=document, is_repeatable=False)

    def default_namespace(self) -> str | None:
        """Where the server would have the repository stored; None if it has no such rule."""
        config = self.ask("GET", "/config", "read the server's configuration")
        prefix = (config.get("storage_config") or {}).get("default_namespace_prefix") or ""
        scheme, _, rest = prefix.partition("://")
        if not scheme or (not rest.strip("/") and scheme != "local"):
            return None
        return f"{scheme}://{rest}/{self.repository}" if rest else f"{scheme}://{self.repository}"

    # Branches and tags

    def head(self, branch: str) -> str:
        """The commit that a branch names.

        Raises:
            RefNotFoundError: there is no such branch.
        """
        path = self.within(f"/branches/{quote(branch, safe='')}")
        return str(self.ask("GET", path, f"read branch {branch!r}")["commit_id"])

    def branches(self, prefix: str = "", *, hidden: bool = False) -> Iterator[tuple[str, str]]:
        """The names of branches and the commits they name; of hidden ones only if asked."""
        query: Query = {"prefix": prefix, "show_hidden": hidden}
        for each in self.pages(self.within("/branches"), "list branches", query):
            yield each["id"], each["commit_id"]

    def create_branch(self, name: str, source: str, *, hidden: bool = False) -> None:
        """Make a branch at a ref; of many that do so at once, one does.

        Raises:
            AlreadyExistsError: there is one of this name.
        """
        document = {"name": name, "source": source, "hidden": hidden}
        what = f"create branch {name!r} at {source!r}"
        self.ask("POST", self.within("/branches"), what, document=document, is_repeatable=False)

    def make_own_branch(self, name: str, source: str) -> None:
        """Make a hidden branch whose name nobody else would choose; also if its answer is lost."""
        for attempt in range(_ATTEMPTS):
            try:
                self.create_branch(name, source, hidden=True)
                return
            except AlreadyExistsError:
                if attempt:
                    return
                raise
            except AnswerLostError:
                if attempt == _ATTEMPTS - 1:
                    raise

    def delete_branch(self, name: str) -> None:
        """Remove a branch, with what is uncommitted on it."""
        path = self.within(f"/branches/{quote(name, safe='')}")
        self.ask("DELETE", path, f"delete branch {name!r}")

    def hard_reset(self, branch: str, to: str) -> None:
        """Let a branch name another commit; what is uncommitted on it stays."""
        path = self.within(f"/branches/{quote(branch, safe='')}/hard_reset")
        self.ask("PUT", path, f"move branch {branch!r} to {to!r}", query={"ref": to})

    def tags(self) -> Iterator[tuple[str, str]]:
        """The names of tags and the commits they name."""
        for each in self.pages(self.within("/tags"), "list tags", {}):
            yield each["id"], each["commit_id"]

    def tag(self, name: str) -> str:
        """The commit that a tag names.

        Raises:
            RefNotFoundError: there is no such tag.
        """
        path = self.within(f"/tags/{quote(name, safe='')}")
        return str(self.ask("GET", path, f"read tag {name!r}")["commit_id"])

    def create_tag(self, name: str, ref: str) -> None:
        """Make a tag.

        Raises:
            AlreadyExistsError: there is one of this name.
        """
        document = {"id": name, "ref": ref}
        what = f"create tag {name!r} at {ref!r}"
        self.ask("POST", self.within("/tags"), what, document=document, is_repeatable=False)

    def delete_tag(self, name: str) -> None:
        """Remove a tag."""
        path = self.within(f"/tags/{quote(name, safe='')}")
        self.ask("DELETE", path, f"delete tag {name!r}", is_repeatable=False)

    # Commits

    def resolve(self, ref: str) -> LakefsCommit:
        """The commit that a lakeFS ref expression names: a branch, a tag, an id or part of one.

        Raises:
            RefNotFoundError: there is none.
        """
        path = self.within(f"/commits/{quote(ref, safe='')}")
        return _commit(self.ask("GET", path, f"read commit {ref!r}"))

    def log(
        self, ref: str, *, amount: int = PAGE, first_parent: bool = False
    ) -> Iterator[LakefsCommit]:
        """The commits that a ref reaches, the newest first, lazily, `amount` to a request."""
        query = {"first_parent": first_parent}
        path = self.within(f"/refs/{quote(ref, safe='')}/commits")
        return map(_commit, self.pages(path, f"read the log of {ref!r}", query, amount))

    def commit(
        self,
        branch: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        allow_empty: bool = False,
    ) -> LakefsCommit:
        """Commit what is uncommitted on a branch."""
        document = {"message": message, "metadata": dict(metadata), "allow_empty": allow_empty}
        path = self.within(f"/branches/{quote(branch, safe='')}/commits")
        what = f"commit to branch {branch!r}"
        return _commit(self.ask("POST", path, what, document=document, is_repeatable=False))

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
        """Merge a ref into a branch; the id of the commit that this makes.

        Raises:
            ConflictError: both changed the same paths.
            RefusedError: a hook or a protection rule said no.
            StorageError: something is uncommitted on the branch.
        """
        document = {
            "message": message,
            "metadata": dict(metadata),
            "squash_merge": squash,
            "allow_empty": allow_empty,
        }
        path = self.within(f"/refs/{quote(source, safe='')}/merge/{quote(into, safe='')}")
        what = f"merge {source!r} into {into!r}"
        answer = self.ask("POST", path, what, document=document, is_repeatable=False)
        return str(answer["reference"])

    def diff(self, left: str, right: str, *, prefix: str = "") -> Iterator[Change]:
        """What differs between two refs, path by path."""
        path = self.within(f"/refs/{quote(left, safe='')}/diff/{quote(right, safe='')}")
        query = {"type": "two_dot", "prefix": prefix}
        return map(_change, self.pages(path, f"compare {left!r} and {right!r}", query))

    def uncommitted(self, branch: str, *, prefix: str = "") -> Iterator[Change]:
        """What is uncommitted on a branch, path by path."""
        path = self.within(f"/branches/{quote(branch, safe='')}/diff")
        what = f"list what is uncommitted on {branch!r}"
        return map(_change, self.pages(path, what, {"prefix": prefix}))

    # Objects

    def list(self, ref: str, prefix: str = "") -> Iterator[Stat]:
        """All objects below a prefix, sorted by path, with their user metadata."""
        path = self.within(f"/refs/{quote(ref, safe='')}/objects/ls")
        query: Query = {"prefix": prefix, "user_metadata": True, "presign": False}
        return map(_stat, self.pages(path, f"list {prefix!r} at {ref!r}", query))

    def stat(self, ref: str, path: str) -> Stat | None:
        """An object; None if there is none."""
        where = self.within(f"/refs/{quote(ref, safe='')}/objects/stat")
        query: Query = {"path": path, "user_metadata": True, "presign": False}
        try:
            return _stat(self.ask("GET", where, f"look at {path!r} at {ref!r}", query=query))
        except RefNotFoundError:
            return None

    def upload(
        self,
        branch: str,
        path: str,
        data: Bytes,
        metadata: Mapping[str, str],
        *,
        only_new: bool = False,
    ) -> Stat:
        """Put an object on a branch, uncommitted.

        Raises:
            PreconditionFailedError: there is one, and `only_new` was asked for.
        """
        if len(data) >= DIRECT_BYTES and self._has_presigning():
            with contextlib.suppress(_NotDirectError):
                return self._upload_directly(branch, path, data, metadata, only_new=only_new)
        headers = {"Content-Type": "application/octet-stream"}
        headers.update({_META + name: value for name, value in metadata.items()})
        if only_new:
            headers["If-None-Match"] = "*"
        where = self.within(f"/branches/{quote(branch, safe='')}/objects")
        what = f"write {path!r} to branch {branch!r}"
        return _stat(
            self.ask("POST", where, what, query={"path": path}, body=data, headers=headers)
        )

    def _upload_directly(
        self,
        branch: str,
        path: str,
        data: Bytes,
        metadata: Mapping[str, str],
        *,
        only_new: bool,
    ) -> Stat:
        """Put the bytes into the object store, then tell lakeFS where they lie.

        Raises:
            PreconditionFailedError: as `upload`.
            _NotDirectError: the object store cannot be reached from here, or refuses.
        """
        where = self.within(f"/branches/{quote(branch, safe='')}/staging/backing")
        what = f"write {path!r} to branch {branch!r}"
        place = self.ask("GET", where, what, query={"path": path, "presign": True})
        with self._or_not_direct():
            put = self.send_elsewhere("PUT", place["presigned_url"], what, data)
        if put.status >= 300 or "ETag" not in put.headers:
            self._is_direct = False
            raise _NotDirectError
        document = {
            "staging": place,
            "checksum": put.headers["ETag"].strip('"'),
            "size_bytes": len(data),
            "user_metadata": dict(metadata),
        }
        headers = {"If-None-Match": "*"} if only_new else None
        query = {"path": path}
        return _stat(self.ask("PUT", where, what, query=query, document=document, headers=headers))

    def _has_presigning(self) -> bool:
        """Whether lakeFS signs URLs of its object store; asked once."""
        if self._is_direct is None:
            config = self.ask("GET", "/config", "read the server's configuration")
            self._is_direct = bool((config.get("storage_config") or {}).get("pre_sign_support"))
        return self._is_direct

    @contextlib.contextmanager
    def _or_not_direct(self) -> Iterator[None]:
        """Go through lakeFS from now on, if the object store does not answer."""
        try:
            yield
        except StorageError:
            self._is_direct = False
            raise _NotDirectError from None

    def read(
        self,
        ref: str,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        expected_bytes: int = 0,
    ) -> bytes:
        """The bytes of an object, or a range of them.

        Args:
            ref: a lakeFS ref expression.
            path: where it lies.
            start: the first byte.
            end: the byte behind the last.
            expected_bytes: how many there will be, if that is known; see `DIRECT_BYTES`.

        Raises:
            KeyNotFoundError: there is none.
        """
        if end is not None and end <= start:
            return b""
        headers = {}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        where = self.within(f"/refs/{quote(ref, safe='')}/objects")
        what = f"read {path!r} at {ref!r}"
        if expected_bytes >= DIRECT_BYTES and self._has_presigning():
            query: Query = {"path": path, "presign": True}
            with contextlib.suppress(_NotDirectError), self._or_not_direct():
                # Answered by a redirection, which is followed without our credentials.
                answer = self.send("GET", where, what, query=query, headers=headers)
                if answer.status in (200, 206):
                    return answer.data
        query = {"path": path, "presign": False}
        answer = self.send("GET", where, what, query=query, headers=headers)
        if answer.status in (404, 410):
            raise KeyNotFoundError(f"lakeFS has no object {path!r} at {ref!r}", key=path)
        if answer.status == 416:
            return b""
        if answer.status >= 300:
            raise failure(
                answer.status,
                answer.data,
                what=what,
                endpoint=self.endpoint,
                source=self.connection.source,
            )
        return answer.data

    def delete(self, branch: str, path: str) -> None:
        """Take an object away from a branch; none is fine."""
        where = self.within(f"/branches/{quote(branch, safe='')}/objects")
        self.ask("DELETE", where, f"delete {path!r} on {branch!r}", query={"path": path})

    def delete_many(self, branch: str, paths: Iterable[str]) -> None:
        """Take objects away from a branch, a thousand in a request."""
        waiting = list(paths)
        where = self.within(f"/branches/{quote(branch, safe='')}/objects/delete")
        for start in range(0, len(waiting), PAGE):
            document = {"paths": waiting[start : start + PAGE]}
            what = f"delete {len(document['paths'])} objects on {branch!r}"
            errors = self.ask("POST", where, what, document=document)["errors"]
            if errors:
                first = errors[0]
                raise StorageError(
                    f"lakeFS at {self.endpoint} could not delete {len(errors)} of "
                    f"{len(document['paths'])} objects on {branch!r}; {first.get('path')!r}: "
                    f"{first.get('message')}"
                )

    def link(self, branch: str, path: str, stat: Stat, metadata: Mapping[str, str]) -> None:
        """Put an object on a branch whose bytes lakeFS has already; nothing is copied."""
        document = {
            "staging": {"physical_address": stat.physical_address},
            "checksum": stat.checksum,
            "size_bytes": stat.size,
            "user_metadata": dict(metadata),
        }
        where = self.within(f"/branches/{quote(branch, safe='')}/staging/backing")
        what = f"link {path!r} on branch {branch!r} to what {stat.path!r} holds"
        self.ask("PUT", where, what, query={"path": path}, document=document)


def _commit(found: Mapping[str, Any]) -> LakefsCommit:
    return LakefsCommit(
        found["id"],
        tuple(found["parents"]),
        found["committer"],
        found["message"],
        found["creation_date"],
        found.get("metadata") or {},
    )


def _change(found: Mapping[str, Any]) -> Change:
    return Change(found["path"], found["type"])


def _stat(found: Mapping[str, Any]) -> Stat:
    return Stat(
        found["path"],
        found.get("size_bytes", 0),
        found["checksum"],
        found["mtime"],
        found.get("metadata") or {},
        found["physical_address"],
    )
