"""The batch reader: looks for what other processes have stored of a session, and applies it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final

from versioned_zarr.engine.sessions.protocol import Known
from versioned_zarr.engine.stored_sessions.batch import Batch, SessionNote, decode_batch
from versioned_zarr.engine.stored_sessions.batch_view import BatchView
from versioned_zarr.engine.stored_sessions.session_log import SessionListing, SessionLog
from versioned_zarr.errors import CorruptError

_LOOKS: Final = 4


class BatchReader:
    """Reads the batches and notes of a session into its view. Thread-safe.

    Args:
        log: stores them.
        session: the id of the session.
        view: what this process knows of the session.
        lock: the lock of the session, held while the view is changed.

    Attributes:
        last_write_s: when a batch was last stored, in seconds since 1970, as of the last look.
    """

    def __init__(
        self, log: SessionLog, session: str, view: BatchView, lock: threading.RLock
    ) -> None:
        self._log, self._session, self._view, self._lock = log, session, view, lock
        self.last_write_s = 0.0

    def look(self, own: int, upto: Known | None) -> bool:
        """Read batches of other writers; returns whether the session has ended.

        A gc may delete a batch or a note after it was listed, if a commit contains it or the
        session ended; the next list says so.

        Args:
            own: the writer of this process, whose batches it applies itself.
            upto: read no batches after these; None for all.

        Raises:
            CorruptError: a batch or a note is damaged, or listed and missing.
        """
        missing: FileNotFoundError | None = None
        for _ in range(_LOOKS):
            try:
                return self._look_once(own, upto)
            except FileNotFoundError as error:
                missing = error
        raise CorruptError(
            f"a batch or a note of session {self._session} is listed and missing: {missing}; "
            "repo.sessions.delete(id) deletes the session",
            where=self._log.url,
        ) from missing

    def _look_once(self, own: int, upto: Known | None) -> bool:
        listing = self._log.look(self._session)
        self.last_write_s = listing.modified_s
        if listing.is_ended:
            return True
        self._take_notes(listing.notes)
        batches = self._batches(listing, own, upto)
        with self._lock:
            self._view.take_in(each for each in batches if not self._view.is_taken(each.name))
        return False

    def _take_notes(self, count: int) -> None:
        """Apply new notes from the last one on that says what a commit contains.

        The intents between it and the one before may be of other commits, which were made since.
        """
        found: list[SessionNote] = []
        for number in range(count, self._view.notes, -1):
            note = self._decoded_note(number, self._log.note(self._session, number))
            if note.is_made and any(each.is_made for each in found):
                break
            found.append(note)
        with self._lock:
            if count > self._view.notes:
                self._view.notes = count
                for note in reversed(found):
                    self._view.add(note)

    def take_note(self, number: int, data: bytes) -> None:
        """Apply a note that was just stored, unless it was read meanwhile."""
        with self._lock:
            if self._view.notes < number:
                self._view.notes = number
                self._view.add(self._decoded_note(number, data))

    def _decoded_note(self, number: int, data: bytes) -> SessionNote:
        return SessionNote.from_bytes(data, f"note {number} of session {self._session}")

    def _batches(self, listing: SessionListing, own: int, upto: Known | None) -> list[Batch]:
        """The batches that this process has not read."""
        names = [
            name
            for name in listing.batches
            if name.writer != own
            and not self._view.is_taken(name)
            and (not isinstance(upto, Mapping) or name.number <= upto.get(name.writer, 0))
        ]
        return [
            decode_batch(document, f"batch {name.number} of session {self._session}")
            for name, document in (self._log.read_all(self._session, names) if names else ())
        ]
