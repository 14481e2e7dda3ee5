"""The session log in an object store.

`sessions/ID/head`, `sessions/ID/note-NUMBER` and `sessions/ID/ended` are objects that are created
once; the batches are packs. docs/design/stored-sessions.md describes the protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from versioned_zarr.backends.objectstore.pack_catalogue import PackCatalogue
from versioned_zarr.backends.objectstore.sessions.batch_documents import entries_of
from versioned_zarr.backends.objectstore.sessions.new_objects import create_new
from versioned_zarr.backends.objectstore.sessions.session_packs import (
    SessionPacks,
    key_and_batch,
    session_key,
)
from versioned_zarr.blocks.packs.pack_registry import PackRegistry
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.sessions.journal import head_in
from versioned_zarr.engine.stored_sessions.batch import SessionNote
from versioned_zarr.engine.stored_sessions.session_log import BatchName, SessionListing
from versioned_zarr.errors import CorruptError, ReadOnlyError, SessionClosedError
from versioned_zarr.fork_local import ForkLocal, threads
from versioned_zarr.ipld.cid import Cid, HashFunction, from_text
from versioned_zarr.storage.conditional_store import ConditionalStore

_SESSIONS: Final = "sessions"
_HEAD, _ENDED, _NOTE = "head", "ended", "note-"


class ObjectSessionLog:
    """See the module, and `SessionLog`.

    Args:
        storage: the objects.
        catalogue: the packs of the repository.
        registry: the locations of the blocks in them.
        hash_function: the hash function of the repository.
    """

    def __init__(
        self,
        storage: ConditionalStore,
        catalogue: PackCatalogue,
        registry: PackRegistry,
        hash_function: HashFunction,
    ) -> None:
        self._storage, self._catalogue, self._registry = storage, catalogue, registry
        self.url = storage.url
        self._packs = SessionPacks(storage, hash_function)
        self._workers: ForkLocal[ThreadPoolExecutor] = threads(2, "vz-sessions")

    def ids(self) -> list[str]:
        """See `SessionLog.ids`."""
        return sorted(session for session, names in self._folders().items() if not _is_ended(names))

    def _folders(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for stored in self._storage.list(_SESSIONS):
            parts = stored.path.split("/")
            if len(parts) == 3:
                found.setdefault(parts[1], set()).add(parts[2])
        return found

    def begin(self, session: str, head: bytes) -> bool:
        """See `SessionLog.begin`."""
        try:
            create_new(self._storage, f"{_SESSIONS}/{session}/{_HEAD}", head)
        except FileExistsError:
            return False
        return True

    def head(self, session: str) -> bytes:
        """See `SessionLog.head`."""
        return bytes(self._storage.read(f"{_SESSIONS}/{session}/{_HEAD}"))

    def look(self, session: str) -> SessionListing:
        """See `SessionLog.look`; one more request for each 1000 batches."""
        self._storage.check_process()
        packs = self._workers().submit(self._packs.named, session)
        names = self._renewed_names(session)
        stored = packs.result()
        return SessionListing(
            {name: each.size for name, each in stored.items()},
            _notes_in(names),
            _is_ended(names),
            max((each.modified_s for each in stored.values()), default=0.0),
        )

    def is_ended(self, session: str) -> bool:
        """See `SessionLog.is_ended`."""
        return _is_ended(self._names(session))

    def _renewed_names(self, session: str) -> set[str]:
        with suppress(ReadOnlyError):  # who may not write sees what the system remembers
            self._storage.renew(f"{_SESSIONS}/{session}")
        return self._names(session)

    def _names(self, session: str) -> set[str]:
        found = self._storage.list(f"{_SESSIONS}/{session}")
        return {stored.path.rpartition("/")[2] for stored in found}

    def append(
        self, session: str, name: BatchName, document: bytes, blocks: Sequence[Block]
    ) -> None:
        """See `SessionLog.append`."""
        self._packs.append(session, name, document, blocks)

    def read(self, session: str, name: BatchName) -> bytes:
        """See `SessionLog.read`."""
        return self._packs.read(session, name)

    def read_all(
        self, session: str, names: Collection[BatchName]
    ) -> Iterable[tuple[BatchName, bytes]]:
        """See `SessionLog.read_all`: about a request for each 64 batches of a writer."""
        return self._packs.read_all(session, names)

    def get(self, cid: Cid) -> memoryview | None:
        """See `SessionLog.get`."""
        return self._packs.get(cid)

    def add_note(self, session: str, number: int, note: bytes) -> None:
        """See `SessionLog.add_note`."""
        create_new(self._storage, _note_path(session, number), note)

    def note(self, session: str, number: int) -> bytes:
        """See `SessionLog.note`."""
        return bytes(self._storage.read(_note_path(session, number)))

    def publish(self, session: str, names: Iterable[BatchName]) -> None:
        """See `SessionLog.publish`: an index file if there are many packs."""
        if self.is_ended(session):
            raise SessionClosedError(
                f"session {session} was discarded by another process; nothing was committed",
                session=session,
            )
        known = self._packs.known(session, names)
        self._registry.adopt({pack: entries_of(stored) for pack, stored in known.items()})
        self._catalogue.add_packs({pack: stored.size_bytes for pack, stored in known.items()})
        self._registry.refresh()

    def end(self, session: str) -> None:
        """See `SessionLog.end`."""
        with suppress(FileExistsError):
            create_new(self._storage, f"{_SESSIONS}/{session}/{_ENDED}", b"")
        self._packs.forget(session)

    def forget(self, session: str) -> None:
        """See `SessionLog.forget`."""
        self._packs.forget(session)

    def forget_batches(self, session: str, names: Iterable[BatchName]) -> None:
        """See `SessionLog.forget_batches`."""
        self._packs.forget_batches(session, names)

    # Garbage collection

    def roots(self) -> Iterator[tuple[Cid, str]]:
        """The commits on which the sessions are based, and the session of each.

        Values that a session did not store again are in one of them. A request, and some for each
        session: for its head, its names, and each of its notes.
        """
        for session in self.ids():
            with suppress(FileNotFoundError):
                where = f"session {session} of {self.url}"
                head = head_in(self.head(session), session, where)
                yield from_text(head.base), f"session {session}"
                made = self._last_made(session)
                if made is not None:
                    yield made.commit, f"session {session}"

    def _last_made(self, session: str) -> SessionNote | None:
        """The last note of a session that says what a commit contains."""
        for number in range(_notes_in(self._renewed_names(session)), 0, -1):
            where = f"note {number} of session {session} of {self.url}"
            note = SessionNote.from_bytes(self.note(session, number), where)
            if note.is_made:
                return note
        return None

    def held(self, packs: Collection[str]) -> set[str]:
        """Those of the packs that belong to sessions, with writes that are in no commit.

        List the packs first: a session is there before its packs. A request, and one for each
        session and each of its notes.
        """
        self._storage.renew(_SESSIONS)
        committed = {session_key(session): self._committed(session) for session in self.ids()}
        found = set()
        for pack in packs if committed else ():
            key, name = key_and_batch(pack)
            if key in committed and name.number > committed[key].get(name.writer, 0):
                found.add(pack)
        return found

    def _committed(self, session: str) -> Mapping[int, int]:
        """The number of the last batch of each writer that a commit contains."""
        # If a note is damaged, the mark reports it, and nothing of the session may be deleted.
        with suppress(FileNotFoundError, CorruptError):
            note = self._last_made(session)
            return {} if note is None else note.upto
        return {}

    def remove_ended(self) -> None:
        """Remove what is stored of ended sessions, except for their packs; the mark goes last."""
        for session, names in self._folders().items():
            if _ENDED in names:
                for name in [*sorted(names - {_ENDED}), _ENDED]:
                    self._storage.delete(f"{_SESSIONS}/{session}/{name}")


def _is_ended(names: Collection[str]) -> bool:
    return _HEAD not in names or _ENDED in names


def _notes_in(names: Collection[str]) -> int:
    return sum(name.startswith(_NOTE) for name in names)


def _note_path(session: str, number: int) -> str:
    return f"{_SESSIONS}/{session}/{_NOTE}{number:06d}"
