"""The session branch: the hidden branch of a session, its content and its writers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote, unquote

from versioned_zarr import process_identity
from versioned_zarr.backends.lakefs.api.api_errors import PreconditionFailedError
from versioned_zarr.backends.lakefs.api.objects import Stat
from versioned_zarr.backends.lakefs.commits import commit_metadata
from versioned_zarr.backends.lakefs.lakefs_context import LakefsContext
from versioned_zarr.backends.lakefs.lakefs_names import SessionName
from versioned_zarr.backends.lakefs.trees.metadata_cache import ObjectLocation
from versioned_zarr.engine.sessions.change_set import PendingWrite
from versioned_zarr.engine.sessions.journal import JournalRecord, RecordKind, SessionHead
from versioned_zarr.engine.sessions.protocol import unnamed
from versioned_zarr.errors import (
    AlreadyExistsError,
    CorruptBlockError,
    InvalidKeyError,
    RefNotFoundError,
    SessionClosedError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.ipld.dag_pb import Link

_PATH_LIMIT_BYTES = 1024


class SessionWrite(NamedTuple):
    """A write to a session: the number of the process and of the write, counted per process."""

    writer: int
    number: int


class CommittedValue(NamedTuple):
    """A value that lakeFS has in a commit.

    Attributes:
        cid: the CID of the value.
        size: its length in bytes.
        tsize: the cumulative size of its blocks.
        stat: the object with its bytes.
    """

    cid: Cid
    size: int
    tsize: int
    stat: Stat


class SessionBranch:
    """See the module. Thread-safe.

    Args:
        parts: the repository.
        head: the session.
        name: the branch, if it exists.

    Attributes:
        name: the lakeFS name; None if the branch does not exist.
    """

    def __init__(self, parts: LakefsContext, head: SessionHead, name: str | None = None) -> None:
        self._parts, self._lakefs_folder, self._client = (
            parts,
            parts.lakefs_folder,
            parts.lakefs_folder.client,
        )
        self._head = head
        self._locations: dict[Cid, ObjectLocation] = {}
        self._names: dict[int, str] = {}
        self._guard = ForkSafeLock()
        self.name = name

    def make(self, base: str) -> str:
        """Create the branch at one of our commits: one request, or two with a purpose."""
        name, on = str(SessionName(self._head)), self._id_of(base)
        with suppress(AlreadyExistsError):  # from an interrupted attempt of this session
            self._client.make_own_branch(name, on)
        if self._head.purpose:
            metadata = {
                commit_metadata.WORK: self._head.id,
                commit_metadata.PURPOSE: self._head.purpose,
            }
            self._client.commit_surely(
                name, "Begin a session", metadata, lambda made: made.id != on
            )
        self.name = name
        return name

    def _id_of(self, commit: str) -> str:
        found = self._parts.commits.id_of(from_text(commit))
        if found is None:
            raise RefNotFoundError(f"lakeFS has no commit that corresponds to {commit}", ref=commit)
        return found

    # Writing

    def send(
        self,
        key: str,
        file: unixfs.File | CommittedValue,
        by: SessionWrite,
        rival: PendingWrite | None = None,
        *,
        only_new: bool = False,
    ) -> None:
        """Write a value to the branch, and determine whether it succeeded.

        The response may be lost.

        Args:
            key: the key.
            file: the value; nothing of a stored one is read or sent.
            by: the process and the number of the write.
            rival: a value from another process that this one did not know of.
            only_new: whether the key must not have a value.

        Raises:
            PreconditionFailedError: the key has a value.
            SessionClosedError: the branch does not exist any more.
            StorageError: the write failed.
        """
        try:
            self._upload(key, file, by, rival, only_new=only_new)
        except PreconditionFailedError:
            raise
        except (StorageError, RefNotFoundError) as error:
            if not self._has(key, by):
                self.explain(error)
                raise
        self._sent(key, file)

    def _upload(
        self,
        key: str,
        file: unixfs.File | CommittedValue,
        by: SessionWrite,
        rival: PendingWrite | None,
        *,
        only_new: bool,
    ) -> None:
        assert self.name is not None
        own = {
            commit_metadata.VALUE_WRITER: str(by.writer),
            commit_metadata.VALUE_NUMBER: str(by.number),
            commit_metadata.VALUE_PROCESS: quote(process_identity.shown(), safe=" "),
        }
        if rival is not None:
            process = quote(self.writer_name(rival.writer), safe=" ")
            own[commit_metadata.VALUE_RIVAL] = to_text(rival.cid)
            own[commit_metadata.VALUE_RIVAL_BY] = f"{rival.writer} {rival.size} {process}"

        def seal(checksum: str) -> dict[str, str]:
            return commit_metadata.value_metadata(
                to_text(file.cid), file.size, file.tsize, checksum
            )

        path = self._lakefs_folder.path(key)
        if isinstance(file, CommittedValue):
            own.update(seal(file.stat.checksum))
            self._client.link(self.name, path, file.stat, own, only_new=only_new)
            return
        leaves = [data for cid, data in file.blocks if cids.is_raw(cid)]
        data = leaves[0] if len(leaves) == 1 else b"".join(leaves)
        self._client.upload(self.name, path, data, own, seal=seal, only_new=only_new)

    def _has(self, key: str, by: SessionWrite) -> bool:
        """Whether the value of a key is from a given write."""
        try:
            stat = self.stat(key)
        except VersionedZarrError:
            return False
        return stat is not None and write_in(stat) == by

    def _sent(self, key: str, file: unixfs.File | CommittedValue) -> None:
        """Record a value that is on the branch now."""
        assert self.name is not None
        self._note(file.cid, ObjectLocation(self.name, self._lakefs_folder.path(key), file.size))
        if isinstance(file, CommittedValue):
            return
        if len(file.blocks) > 1:
            nodes = [block for block in file.blocks if not cids.is_raw(block[0])]
            self._lakefs_folder.metadata_cache.add_nodes(nodes)
        else:
            self._parts.blocks.cache.add(*file.blocks[0])

    def _note(self, cid: Cid, location: ObjectLocation) -> None:
        with self._guard:
            self._locations[cid] = location

    def check_length(self, key: str) -> None:
        """Make sure that lakeFS accepts the length of a key.

        Raises:
            InvalidKeyError: its path in lakeFS is longer than 1024 characters.
        """
        path = self._lakefs_folder.path(key)
        if len(path.encode()) > _PATH_LIMIT_BYTES:
            raise InvalidKeyError(
                f"key {key[:60]!r}… is too long for lakeFS, which allows paths of up to "
                f"{_PATH_LIMIT_BYTES} bytes; this one has {len(path.encode())}",
                key=key,
            )

    def explain(self, error: VersionedZarrError) -> None:
        """Raise the cause of an error, if the repository or this branch does not exist any more.

        Raises:
            RepositoryNotFoundError: the repository does not exist any more.
            SessionClosedError: the branch does not exist any more.
        """
        if not isinstance(error, RefNotFoundError) or self.name is None:
            return
        self._client.check_exists()
        raise SessionClosedError(
            f"session {self._head.id} has ended: its branch {self.name!r} on lakeFS was deleted; "
            "open a new one with repo.session()",
            session=self._head.id,
        ) from error

    def head(self) -> str:
        """The head of the branch, and whether it exists: to lakeFS, every missing object is alike.

        Raises:
            SessionClosedError: it does not exist; the session has ended.
        """
        assert self.name is not None
        try:
            return self._client.head(self.name)
        except RefNotFoundError as error:
            self.explain(error)
            raise

    def delete(self, keys: Iterable[str]) -> None:
        """Delete keys: one request per thousand."""
        assert self.name is not None
        self._client.delete_many(self.name, [self._lakefs_folder.path(key) for key in keys])

    # Reading

    def stored(self, link: Link) -> CommittedValue | None:
        """A committed value, if lakeFS still has it; one request."""
        location = self._lakefs_folder.metadata_cache.location(link.cid)
        stat = None if location is None else self._client.stat(location.ref, location.path)
        return None if stat is None else CommittedValue(link.cid, stat.size, link.tsize, stat)

    def location(self, cid: Cid) -> ObjectLocation | None:
        """The location of a value that this process wrote or saw on the branch."""
        with self._guard:
            return self._locations.get(cid)

    def read(self, found: PendingWrite, start: int, end: int | None) -> memoryview | None:
        """The bytes of a value on the branch, or a range of them; None if it is not there.

        Raises:
            CorruptBlockError: the whole value was read, and does not match its CID.
        """
        location = self.location(found.cid)
        if location is None:
            return None
        blocks = self._parts.blocks
        near = blocks.cache.get(found.cid) if cids.is_raw(found.cid) else None
        if near is not None:
            return near[start:end]
        blocks.check_may_wait()
        stop = found.size if end is None else min(end, found.size)
        if (start, stop) != (0, found.size):
            part = self._client.read(
                location.ref, location.path, start, stop, expected_bytes=stop - start
            )
            return memoryview(part)
        data = self._client.read(location.ref, location.path, expected_bytes=found.size)
        if unixfs.build_file(data, blocks.hash).cid != found.cid:
            text = to_text(found.cid)
            raise CorruptBlockError(
                f"{location.path!r} on lakeFS branch {location.ref!r} is not {text}, which the "
                f"session "
                "wrote there: someone else has changed it since",
                cid=text,
                where=location.path,
            )
        return memoryview(data)

    def stat(self, key: str) -> Stat | None:
        """The metadata of a key."""
        assert self.name is not None
        return self._client.stat(self.name, self._lakefs_folder.path(key))

    def writer_name(self, writer: int) -> str:
        """The process that writes under a number, if an object that was seen names it."""
        return self._names.get(writer) or unnamed(writer)

    def rival(self, key: str, stat: Stat) -> JournalRecord | None:
        """The value that the writer of an object replaced without knowing of it, as a record."""
        cid = stat.metadata.get(commit_metadata.VALUE_RIVAL)
        if cid is None:
            return None
        told = stat.metadata.get(commit_metadata.VALUE_RIVAL_BY, "").split(" ", 2)
        try:
            writer, size = int(told[0]), int(told[1])
            self._names[writer] = unquote(told[2])
        except (IndexError, ValueError):
            writer = size = 0
        return JournalRecord(RecordKind.SET, key, writer, 0, size=size, cid=from_text(cid))

    def record(self, key: str, stat: Stat) -> JournalRecord:
        """The write that created an object, as a record."""
        assert self.name is not None
        process = stat.metadata.get(commit_metadata.VALUE_PROCESS)
        if process is not None:
            self._names[write_in(stat).writer] = unquote(process)
        value = self._parts.tree_reader.value(self.name, stat)
        self._note(value.cid, ObjectLocation(self.name, stat.path, stat.size))
        return JournalRecord(
            RecordKind.SET,
            key,
            write_in(stat).writer,
            0,
            size=stat.size,
            tsize=value.tsize,
            cid=value.cid,
        )

    def changes(self, base: str, known: Iterable[str]) -> Iterator[tuple[str, Stat | None]]:
        """The keys that differ from one of our commits, and the `known` ones, with their values.

        Costs what `LakefsFolder.stats` costs, and one request per thousand keys.
        """
        assert self.name is not None
        name, lakefs_folder = self.name, self._lakefs_folder
        paths = {lakefs_folder.path(key): None for key in known}
        on, head = self._id_of(base), self.head()
        if head != on:
            for change in self._client.diff(on, head, prefix=lakefs_folder.prefix):
                paths[change.path] = None
        for change in self._client.uncommitted(name, prefix=lakefs_folder.prefix):
            paths[change.path] = None
        wanted = [path for path in paths if not path.endswith("/")]
        return ((lakefs_folder.key(path), stat) for path, stat in lakefs_folder.stats(name, wanted))

    def intended(self) -> Cid | None:
        """Our commit that the lakeFS commits of the branch were meant for, if any."""
        assert self.name is not None
        found = self._parts.commits.find(self._client.head(self.name))
        text = (
            commit_metadata.named_in(found.metadata)
            if commit_metadata.WORK in found.metadata
            else None
        )
        return None if text is None else from_text(text)

    # After a commit

    def landed(self, commit: str) -> None:
        """Record that everything on the branch is in a lakeFS commit now."""
        with self._guard:
            locations = list(self._locations.items())
            self._locations.clear()
        moved = ((cid, location._replace(ref=commit)) for cid, location in locations)
        self._lakefs_folder.metadata_cache.add_locations(moved)

    def begin_again(self, base: str) -> None:
        """Continue from one of our commits; later writes of other processes stay on the branch."""
        assert self.name is not None
        with suppress(StorageError):  # its content is in the commit anyway
            self._client.hard_reset(self.name, self._id_of(base))

    def remove(self) -> None:
        """Delete the branch and its content."""
        if self.name is not None:
            with suppress(RefNotFoundError):
                self._client.delete_branch(self.name)
            self.name = None
            with self._guard:
                self._locations.clear()


def write_in(stat: Stat) -> SessionWrite:
    """The write that created an object; writer 0 if it was not created by a session."""
    try:
        told = stat.metadata
        return SessionWrite(
            int(told[commit_metadata.VALUE_WRITER]), int(told[commit_metadata.VALUE_NUMBER])
        )
    except (KeyError, ValueError):
        return SessionWrite(0, 0)
