"""The session log on a Kubo node: the writes of stored sessions in MFS.

A session is the MFS directory `sessions/ID` of the repository: its head, its notes, and a UnixFS
directory for each batch, with the document and the values. So the node's garbage collection keeps
what a session wrote until the directory is removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Final

from versioned_zarr.backends.kubo.client import KuboClient, NoSuchPathError, PathTakenError
from versioned_zarr.backends.kubo.kubo_blocks import KuboBlocks
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.stored_sessions.session_log import BatchName, SessionListing
from versioned_zarr.errors import SessionClosedError
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, to_text

_HEAD, _NOTE, _DOCUMENT = "head", "note-", "document"
_BLOCKS_A_DIRECTORY: Final = 4096


class KuboSessionLog:
    """See the module, and `SessionLog`.

    Args:
        client: the node.
        root: the repository's MFS directory.
        blocks: the blocks on the node.
        url: the URL of the repository, for errors.
    """

    def __init__(self, client: KuboClient, root: str, blocks: KuboBlocks, url: str) -> None:
        self._client, self._blocks, self.url = client, blocks, url
        self._root = f"{root}/sessions"

    def ids(self) -> list[str]:
        """See `SessionLog.ids`; a request, and one for each session."""
        return [session for session in self._names(self._root) if self._is_open(session)]

    def _names(self, path: str) -> list[str]:
        try:
            return sorted(entry.name for entry in self._client.list(path))
        except NoSuchPathError:
            return []

    def _is_open(self, session: str) -> bool:
        return _HEAD in self._names(f"{self._root}/{session}")

    def begin(self, session: str, head: bytes) -> bool:
        """See `SessionLog.begin`; two requests."""
        try:
            self._create(f"{session}/{_HEAD}", head, parents=True)
        except FileExistsError:
            return False
        return True

    def _create(self, path: str, data: bytes, *, parents: bool = False) -> None:
        with self._blocks.guarding():
            root = self._blocks.hash.raw(data)
            self._blocks.put([(root, data)], root)
            self._link(root, path, parents=parents)
            self._blocks.settle()

    def _link(self, root: Cid, path: str, *, parents: bool = False) -> None:
        """Link a CID at a path that must be new.

        Raises:
            FileExistsError: there is something, which may be this CID.
            SessionClosedError: the session has ended.
        """
        try:
            self._client.copy(to_text(root), f"{self._root}/{path}", parents=parents)
        except PathTakenError:
            raise FileExistsError(path) from None
        except NoSuchPathError:
            raise self._closed(path.partition("/")[0]) from None

    def _closed(self, session: str) -> SessionClosedError:
        return SessionClosedError(
            f"session {session} was discarded by another process; open a new one with "
            "repo.session()",
            session=session,
        )

    def head(self, session: str) -> bytes:
        """See `SessionLog.head`."""
        return self._read(f"{session}/{_HEAD}")

    def _read(self, path: str) -> bytes:
        try:
            return self._client.read(f"{self._root}/{path}")
        except NoSuchPathError:
            raise FileNotFoundError(path) from None

    def look(self, session: str) -> SessionListing:
        """See `SessionLog.look`; MFS keeps no times and no sizes."""
        names = self._names(f"{self._root}/{session}")
        batches = {name: 0 for each in names if (name := _batch_in(each)) is not None}
        notes = sum(name.startswith(_NOTE) for name in names)
        return SessionListing(batches, notes, _HEAD not in names, 0.0)

    def is_ended(self, session: str) -> bool:
        """See `SessionLog.is_ended`."""
        return not self._is_open(session)

    def append(
        self, session: str, name: BatchName, document: bytes, blocks: Sequence[Block]
    ) -> None:
        """See `SessionLog.append`: two requests, and two that make sure nothing was collected."""
        root, nodes = self._directory_of(document, blocks)
        with self._blocks.guarding():
            self._blocks.put([*blocks, *nodes], root)
            self._link(root, f"{session}/{name.writer:08x}-{name.number:06d}")
            self._blocks.settle()

    def _directory_of(self, document: bytes, blocks: Sequence[Block]) -> tuple[Cid, list[Block]]:
        """A directory that reaches a document and blocks, and its own blocks."""
        hash_function = self._blocks.hash
        there = hash_function.raw(document)
        links = [(_DOCUMENT, there, len(document))]
        nodes: list[Block] = [(there, document)]
        for start in range(0, len(blocks), _BLOCKS_A_DIRECTORY):
            below = [
                (f"{number:06d}", cid, len(data))
                for number, (cid, data) in enumerate(blocks[start : start + _BLOCKS_A_DIRECTORY])
            ]
            data = unixfs.directory(below)
            cid = hash_function.dag_pb(data)
            nodes.append((cid, data))
            links.append((f"values-{start:06d}", cid, sum(size for _, _, size in below)))
        data = unixfs.directory(links)
        root = hash_function.dag_pb(data)
        return root, [*nodes, (root, data)]

    def read(self, session: str, name: BatchName) -> bytes:
        """See `SessionLog.read`."""
        return self._read(f"{session}/{name.writer:08x}-{name.number:06d}/{_DOCUMENT}")

    def read_all(
        self, session: str, names: Collection[BatchName]
    ) -> Iterable[tuple[BatchName, bytes]]:
        """See `SessionLog.read_all`: a request for each."""
        listed = list(names)
        found = self._client.in_parallel(lambda name: self.read(session, name), listed)
        return zip(listed, found, strict=True)

    def get(self, cid: Cid) -> memoryview | None:
        """See `SessionLog.get`: the node has all blocks."""
        del cid
        return None

    def add_note(self, session: str, number: int, note: bytes) -> None:
        """See `SessionLog.add_note`; two requests."""
        self._create(f"{session}/{_NOTE}{number:06d}", note)

    def note(self, session: str, number: int) -> bytes:
        """See `SessionLog.note`."""
        return self._read(f"{session}/{_NOTE}{number:06d}")

    def publish(self, session: str, names: Iterable[BatchName]) -> None:
        """See `SessionLog.publish`."""
        del names  # the node has the blocks
        if not self._is_open(session):
            raise self._closed(session)

    def end(self, session: str) -> None:
        """See `SessionLog.end`: removes the directory of the session."""
        self._client.remove(f"{self._root}/{session}")

    def forget(self, session: str) -> None:
        """See `SessionLog.forget`."""

    def forget_batches(self, session: str, names: Iterable[BatchName]) -> None:
        """See `SessionLog.forget_batches`."""


def _batch_in(name: str) -> BatchName | None:
    writer, dash, number = name.partition("-")
    if len(writer) == 8 and dash and number.isdecimal():
        with suppress(ValueError):
            return BatchName(int(writer, 16), int(number))
    return None
