"""The objects of a lakeFS repository: listed, read, written, deleted, linked."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from versioned_zarr.backends.lakefs.api.sdk_transport import PAGE, Query, Transport
from versioned_zarr.errors import KeyNotFoundError, RefNotFoundError, StorageError
from versioned_zarr.storage.protocol import Bytes

DIRECT_BYTES = 1 << 20
"""Values of at least this size are transferred directly to and from the object store, if lakeFS
presigns URLs: three requests instead of one to write, two to read."""
_META = "x-lakefs-meta-"


Seal: TypeAlias = Callable[[str], Mapping[str, str]]
"""Returns the user metadata of an object that depend on its content, from its checksum."""


def _unsealed(_: str) -> Mapping[str, str]:
    return {}


class Stat(NamedTuple):
    """An object.

    Attributes:
        path: its path in the lakeFS repository.
        size: its length in bytes.
        checksum: the checksum of its content in lakeFS.
        mtime: when it was last written, in seconds since 1970.
        metadata: its user metadata.
        physical_address: its address in the object store.
    """

    path: str
    size: int
    checksum: str
    mtime: int
    metadata: Mapping[str, str]
    physical_address: str


class _NotDirectError(Exception):
    """The object store of lakeFS cannot be used directly."""


class Objects(Transport):
    """The objects of one repository; see `Transport`."""

    _is_direct: bool | None = None

    def list(self, ref: str, prefix: str = "") -> Iterator[Stat]:
        """All objects below a prefix, sorted by path, with their user metadata."""
        path = self.within(f"/refs/{quote(ref, safe='')}/objects/ls")
        query: Query = {"prefix": prefix, "user_metadata": True, "presign": False}
        return self.pages(path, f"list {prefix!r} at {ref!r}", _stat, query)

    def stat(self, ref: str, path: str) -> Stat | None:
        """An object; None if there is none."""
        where = self.within(f"/refs/{quote(ref, safe='')}/objects/stat")
        query: Query = {"path": path, "user_metadata": True, "presign": False}
        try:
            what = f"stat {path!r} at {ref!r}"
            return self.get("GET", where, what, _stat, query=query, is_small=True)
        except RefNotFoundError:
            return None

    def upload(
        self,
        branch: str,
        path: str,
        data: Bytes,
        metadata: Mapping[str, str],
        *,
        seal: Seal = _unsealed,
        only_new: bool = False,
    ) -> Stat:
        """Write an object to a branch, uncommitted.

        Args:
            branch: the branch.
            path: the path.
            data: the content.
            metadata: its user metadata.
            seal: returns more user metadata, given the checksum of the content in lakeFS.
            only_new: whether it must not exist yet.

        Raises:
            PreconditionFailedError: it already exists, and `only_new` is set.
        """
        if len(data) >= DIRECT_BYTES and self._has_presigning():
            with contextlib.suppress(_NotDirectError):
                return self._upload_directly(
                    branch, path, data, metadata, seal=seal, only_new=only_new
                )
        headers = {"Content-Type": "application/octet-stream"}
        # The checksum that lakeFS computes for uploads through the server.
        own = seal(hashlib.md5(data, usedforsecurity=False).hexdigest())
        headers.update({_META + name: value for name, value in {**metadata, **own}.items()})
        if only_new:
            headers["If-None-Match"] = "*"
        where = self.within(f"/branches/{quote(branch, safe='')}/objects")
        what = f"write {path!r} to branch {branch!r}"
        query = {"path": path}
        return self.get(
            "POST", where, what, _stat, query=query, body=data, headers=headers, is_small=True
        )

    def _upload_directly(
        self,
        branch: str,
        path: str,
        data: Bytes,
        metadata: Mapping[str, str],
        *,
        seal: Seal,
        only_new: bool,
    ) -> Stat:
        """Write the bytes to the object store, then link them in lakeFS.

        Raises:
            PreconditionFailedError: see `upload`.
            _NotDirectError: the object store cannot be reached from here, or rejects the upload.
        """
        where = self.within(f"/branches/{quote(branch, safe='')}/staging/backing")
        what = f"write {path!r} to branch {branch!r}"
        query: Query = {"path": path, "presign": True}
        place, url = self.get("GET", where, what, _backing, query=query)
        with self._or_not_direct():
            put = self.send_elsewhere("PUT", url, what, data)
        if put.status >= 300 or "ETag" not in put.headers:
            self._is_direct = False
            raise _NotDirectError
        checksum = put.headers["ETag"].strip('"')
        document = {
            "staging": place,
            "checksum": checksum,
            "size_bytes": len(data),
            "user_metadata": {**metadata, **seal(checksum)},
        }
        headers = {"If-None-Match": "*"} if only_new else None
        query = {"path": path}
        return self.get("PUT", where, what, _stat, query=query, document=document, headers=headers)

    def _has_presigning(self) -> bool:
        """Whether lakeFS can presign URLs of its object store; checked once."""
        if self._is_direct is None:
            self._is_direct = bool(self.storage_config().get("pre_sign_support"))
        return self._is_direct

    def storage_config(self) -> Mapping[str, Any]:
        """The storage configuration of the server."""
        what = "read the server's configuration"
        return self.get(
            "GET", "/config", what, lambda found: dict(found.get("storage_config") or {})
        )

    @contextlib.contextmanager
    def _or_not_direct(self) -> Iterator[None]:
        """Use only lakeFS from now on, if the object store does not respond."""
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
            path: the path.
            start: the first byte.
            end: the byte after the last.
            expected_bytes: the number of bytes, if known; see `DIRECT_BYTES`.

        Raises:
            KeyNotFoundError: it does not exist.
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
                # The response is a redirect, which is followed without our credentials.
                answer = self.send("GET", where, what, query=query, headers=headers)
                if answer.status in (200, 206):
                    return answer.data
        query = {"path": path, "presign": False}
        answer = self.send("GET", where, what, query=query, headers=headers, is_small=True)
        if answer.status == 416:
            return b""
        if answer.status >= 300:
            error = self.refusal(answer, what)
            if isinstance(error, RefNotFoundError):
                message = f"lakeFS has no object {path!r} at {ref!r}"
                raise KeyNotFoundError(message, key=path) from error
            raise error
        return answer.data

    def delete(self, branch: str, path: str) -> None:
        """Delete an object from a branch, if it exists."""
        where = self.within(f"/branches/{quote(branch, safe='')}/objects")
        self.ask("DELETE", where, f"delete {path!r} on {branch!r}", query={"path": path})

    def delete_many(self, branch: str, paths: Iterable[str]) -> None:
        """Delete objects from a branch, a thousand per request."""
        waiting = list(paths)
        where = self.within(f"/branches/{quote(branch, safe='')}/objects/delete")
        for start in range(0, len(waiting), PAGE):
            document = {"paths": waiting[start : start + PAGE]}
            what = f"delete {len(document['paths'])} objects on {branch!r}"
            errors = self.get("POST", where, what, _errors, document=document)
            if errors:
                first = errors[0]
                raise StorageError(
                    f"lakeFS at {self.endpoint} could not delete {len(errors)} of "
                    f"{len(document['paths'])} objects on {branch!r}; {first.get('path')!r}: "
                    f"{first.get('message')}"
                )

    def link(
        self,
        branch: str,
        path: str,
        stat: Stat,
        metadata: Mapping[str, str],
        *,
        only_new: bool = False,
    ) -> None:
        """Create an object on a branch from bytes that lakeFS already has; nothing is copied.

        Raises:
            PreconditionFailedError: it already exists, and `only_new` is set.
        """
        document = {
            "staging": {"physical_address": stat.physical_address},
            "checksum": stat.checksum,
            "size_bytes": stat.size,
            "user_metadata": dict(metadata),
        }
        where = self.within(f"/branches/{quote(branch, safe='')}/staging/backing")
        what = f"link {path!r} on branch {branch!r} to the content of {stat.path!r}"
        headers = {"If-None-Match": "*"} if only_new else None
        query = {"path": path}
        self.ask("PUT", where, what, query=query, document=document, headers=headers, is_small=True)


def _backing(found: Any) -> tuple[Mapping[str, Any], str]:
    return found, str(found["presigned_url"])


def _errors(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(found["errors"] or ())


def _stat(found: Mapping[str, Any]) -> Stat:
    return Stat(
        found["path"],
        found.get("size_bytes", 0),
        found["checksum"],
        found["mtime"],
        found.get("metadata") or {},
        found["physical_address"],
    )
