"""The fsspec file system of a branch, tag or commit: `vzarr://REF@/PATH::REPOSITORY`.

It reads from a snapshot. The first write opens a session on the branch. From then on, all file
systems of this process on that branch use the session, because fsspec creates one for each thread.
`commit`, or the end of a `with fs.transaction:`, commits it. A pickled file system carries its
session, or else its snapshot, to the process that unpickles it.

`vzarr://session/ID@/PATH::REPOSITORY` joins an open session instead, for engines that take only
strings: reads see it, writes go into it. Whoever opened the session commits it.
"""

from __future__ import annotations

import os
import pickle
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from fsspec import get_filesystem_class
from fsspec.core import split_protocol
from fsspec.transaction import Transaction

from versioned_zarr import location
from versioned_zarr.errors import InvalidUrlError, SessionNotFoundError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.interfaces.fsspec import branch_urls, object_urls
from versioned_zarr.interfaces.fsspec.shared_session import JoinedSession, SharedSession
from versioned_zarr.interfaces.fsspec.written_files import WrittenFiles
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session, join
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.urls import without_user

object_urls.register_placeholders()

_OF_LAKEFS = {"host": "endpoint", "username": "access_key_id", "password": "secret_access_key"}
_WITH_SECRETS = {"fo", "target_options"}
_PROCESS = secrets.token_hex(8)
"""Identifies this process, together with its process ID."""


class _Commit(Transaction):  # type: ignore[misc]  # fsspec has no types
    """Commits the writes within it together, or discards them if an exception ends it."""

    fs: VersionedFileSystem

    def start(self) -> None:
        self.fs.check_may_end()
        super().start()

    def complete(self, commit: bool = True) -> None:
        files = self.fs  # which the next lines clear
        is_whole = False
        try:
            super().complete(commit)
            is_whole = commit
        finally:
            files.end_session(commit=is_whole)


class _Instances(type(WrittenFiles)):  # type: ignore[misc]  # fsspec has no types
    """Creates a file system for each store of obstore; fsspec cannot tell these from each other."""

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        if "store" in (options.get("target_options") or {}):
            options["skip_instance_cache"] = True
        return super().__call__(*arguments, **options)


class VersionedFileSystem(WrittenFiles, metaclass=_Instances):
    """See the module. The ref is resolved once; `invalidate_cache` resolves it again.

    Args:
        fo: the repository, as fsspec passes it from the text after `::`; without a scheme if
            `target_protocol` has it.
        ref: a branch; any ref for reading.
        target_protocol: the scheme of the repository's URL.
        target_options: the options of `vz.open`; for lakeFS, also in the terms of lakefs-spec, and
            for an object store also its own, such as `region`.
        message: the default message of commits.
        session_id: the ID of an open session to join, in place of a ref.
        handed_on: the state of a pickled file system; not for callers.
        storage_options: for fsspec.

    Raises:
        InvalidUrlError: the repository is missing.
        RepositoryNotFoundError: the repository does not exist.
        RefNotFoundError: it has no such ref.
        SessionNotFoundError: it has no such session; it has ended, or never existed.
    """

    transaction_type = _Commit

    def __init__(
        self,
        fo: str | os.PathLike[str] = "",
        ref: str = "main",
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        message: str = "Write through fsspec",
        *,
        session_id: str = "",
        handed_on: str = "",
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        if not fo:
            raise InvalidUrlError(
                "name the repository after '::', as in vzarr://main@/air::file:///data/air.vz",
                url=branch_urls.START,
            )
        self._place = _place_of(fo, target_protocol)
        given = object_urls.options_at(self._place, target_options or {})
        options = {_OF_LAKEFS.get(name, name): value for name, value in given.items()}
        self.repository: Repository = location.open(self._place, **options)
        self.ref, self.message, self.session_id = ref, message, session_id
        if session_id and not handed_on:
            self._join(join(self.repository, session_id))
        elif handed_on:
            self._shared = SharedSession(self.repository, ref, may_open=False)
        else:
            self._shared = SharedSession.of(self.repository, ref, object_urls.server_of(options))
            if self._shared.to_read() is None:
                self.repository.checkout(ref)  # otherwise its error would count as a missing file
        self._seen: tuple[int, Snapshot] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        view = self._shared.hand_on() or self.view
        of = (type(self), self.storage_args, self.storage_options)
        return _unpickle, (*of, _process(), pickle.dumps(view), _name_of(view))

    def _join(self, session: Session) -> None:
        self._shared, self.ref = JoinedSession(self.repository, session), session.branch

    def take_over(self, view: bytes) -> None:
        """Use the session of another process, or its snapshot, read-only.

        Raises:
            SessionNotFoundError: a URL named the session, and it has ended.
        """
        if self.session_id:
            self._join(pickle.loads(view))  # noqa: S301 - a part of what is unpickled already
            return
        found: Snapshot | Session | None = None
        with suppress(SessionNotFoundError):  # it has ended, and its commit is on the branch
            found = pickle.loads(view)  # noqa: S301 - a part of what is unpickled already
        session = found if isinstance(found, Session) else None
        self._shared = SharedSession(self.repository, self.ref, session, may_open=False)
        self._seen = (self._shared.ends, found) if isinstance(found, Snapshot) else None

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """The arguments of this file system, as JSON data, without any credentials."""
        del include_password  # there is none
        kind = type(self)
        options = {
            name: object_urls.without_secrets(value) if name in _WITH_SECRETS else value
            for name, value in self.storage_options.items()
        }
        return {
            "cls": f"{kind.__module__}:{kind.__name__}",
            "protocol": "vzarr",
            "args": [object_urls.without_secrets(each) for each in self.storage_args],
            **options,
        }

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        if not branch_urls.is_url(path):
            return {}
        url = branch_urls.read(path)
        named = {"ref": url.ref, "session_id": url.session}
        return {option: value for option, value in named.items() if value}

    def unstrip_protocol(self, name: str) -> str:
        """The full URL of a path, with the ref and the repository.

        With the same options, `fsspec.url_to_fs` turns it back into this file system and the path.
        """
        path, place = self._strip_protocol(name), self.repository.url
        if self.session_id:
            return branch_urls.write_session(self.session_id, path, place)
        return branch_urls.write(self.ref, path, place)

    def check_is_own(self, url: branch_urls.BranchUrl) -> None:
        """Check that a URL names this ref of this repository.

        Raises:
            InvalidUrlError: it names another.
        """
        named = url.repository
        is_here = named in ("", self.repository.url, self._place)
        if not is_here:
            is_here = _place_of(*_of_chain(named)) == self._place
        is_ref = url.session == self.session_id if url.session else url.ref in ("", self.ref)
        if is_ref and is_here:
            return
        shown = branch_urls.write(url.ref or self.ref, url.path, "")
        if url.session:
            shown = branch_urls.write_session(url.session, url.path, "")
        where = without_user(named or self.repository.url)
        has = f"session {self.session_id}" if self.session_id else repr(self.ref)
        raise InvalidUrlError(
            f"{shown!r} of {where!r} is not in this file system, which has {has} of "
            f"{self.repository.url!r}; open the URL with fsspec.url_to_fs",
            url=shown,
        )

    # The version

    @property
    def view_name(self) -> str:
        """The name that errors use for the data being read."""
        return self.repository.url

    @property
    def view(self) -> Snapshot | Session:
        """The source of reads: the session after the first write, otherwise the snapshot."""
        session = self._shared.to_read()
        if session is not None:
            return session
        ends, seen = self._shared.ends, self._seen
        if seen is None or seen[0] != ends:
            self._seen = seen = ends, self.repository.checkout(self.ref)
        return seen[1]

    @property
    def session(self) -> Session:
        """The session for writes; opened on first access.

        Raises:
            ReadOnlyError: this is a copy from a process that had no session.
        """
        return self._shared.to_write()

    def commit(self, message: str | None = None) -> Commit:
        """Commit all writes on this branch, from any thread or process.

        Later reads and writes continue from the head of the branch.

        Raises:
            NothingToCommitError: nothing was written.
            ConflictError: the branch has moved, and the changes conflict.
        """
        return self._shared.commit(message or self.message)

    def end_session(self, *, commit: bool) -> None:
        """Commit or discard any writes; the next write opens a new session.

        Raises:
            InvalidInputError: another process opened the session.
        """
        self._shared.end(self.message if commit else None)

    def check_may_end(self) -> None:
        """Raise InvalidInputError if another process opened the session."""
        self._shared.check_is_own()

    def invalidate_cache(self, path: str | None = None) -> None:
        """Look up the commit of the ref again; a session with writes is kept."""
        super().invalidate_cache(path)
        self._seen = None


def _place_of(repository: str | os.PathLike[str], scheme: str | None) -> str:
    """The URL or path of a repository, as `vz.open` accepts it.

    fsspec passes the text after `::` in a URL without its scheme, and the path of a folder
    unchanged: percent-encoded, if it comes from a URL of ours. An existing folder has priority.
    """
    text = os.fspath(repository)
    if "://" in text:
        return text
    if scheme not in (None, "file", "local"):
        return f"{scheme}://{text.lstrip('/')}"
    return text if os.path.exists(text) else unquote(text)


def _of_chain(repository: str) -> tuple[str, str]:
    """The text after `::` in a URL, as fsspec passes it to `VersionedFileSystem`."""
    scheme, path = split_protocol(repository)
    scheme = scheme or "file"
    return get_filesystem_class(scheme)._strip_protocol(
        path if scheme == "file" else repository
    ), scheme


def _process() -> tuple[int, str]:
    return os.getpid(), _PROCESS


def _name_of(view: Snapshot | Session) -> str:
    return view.id if isinstance(view, Session) else view.cid


def _unpickle(
    kind: type[VersionedFileSystem],
    args: tuple[Any, ...],
    options: dict[str, Any],
    process: tuple[int, str],
    view: bytes,
    name: str,
) -> VersionedFileSystem:
    if process == _process() and not options.get("handed_on"):
        return kind(*args, **options)
    files = kind(*args, **{**options, "handed_on": name})
    files.take_over(view)
    return files
