"""The metadata cache: what this machine has learned about a lakeFS repository.

One SQLite file, shared by processes. All its content can be recomputed, so it can be deleted at any
time. Its entries never change, because lakeFS commits and objects do not. A damaged file is
replaced. If the file cannot be written, the cache is kept in memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from versioned_zarr.errors import StorageError
from versioned_zarr.ipld.cid import Cid, matches
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes

_TABLES = """
CREATE TABLE IF NOT EXISTS nodes (cid BLOB PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS places (cid BLOB PRIMARY KEY, ref TEXT NOT NULL, path TEXT NOT NULL,
    size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (address TEXT NOT NULL, checksum TEXT NOT NULL,
    cid BLOB NOT NULL, tsize INTEGER NOT NULL, PRIMARY KEY (address, checksum)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trees (id TEXT PRIMARY KEY, root BLOB NOT NULL, tsize INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS roots ON trees (root);
CREATE TABLE IF NOT EXISTS commits (cid BLOB PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID;
"""
_LOG = logging.getLogger("versioned_zarr")
_WAIT_S = 30.0
_NEAR_PLACES = 1 << 16
_IN_MEMORY = ":memory:"
# The first version: its tables are different.
_DAMAGED = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_T = TypeVar("_T")


class ObjectLocation(NamedTuple):
    """The location of a value: the path includes the repository's prefix."""

    ref: str
    path: str
    size: int


class MetadataCache:
    """See the module. Thread-safe; a forked child opens the file again.

    Args:
        path: the path of the file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._near: dict[Cid, ObjectLocation] = {}
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._database = self._opened(_IN_MEMORY)
        try:
            self._database = self._opened(self._path)
        except sqlite3.DatabaseError as error:
            self._replace(error)

    def _opened(self, path: Path | str) -> sqlite3.Connection:
        database = sqlite3.connect(
            path, timeout=_WAIT_S, check_same_thread=False, isolation_level=None
        )
        try:
            database.execute("PRAGMA journal_mode=WAL")
            # Entries lost in a crash of the machine are recomputed.
            database.execute("PRAGMA synchronous=OFF")
            database.executescript(_TABLES)
        except BaseException:
            database.close()
            raise
        weakref.finalize(self, database.close)
        return database

    def _replace(self, error: sqlite3.DatabaseError) -> None:
        """Continue with a new file; in memory, if the file is intact but cannot be used.

        Raises:
            StorageError: other processes keep it locked.
        """
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StorageError(
                f"{self._path} has been held by another process for {_WAIT_S:g} s; try again",
                where=str(self._path),
            ) from error
        if code in _DAMAGED:
            _LOG.warning("%s is damaged (%s) and will be recreated", self._path, error)
            with contextlib.suppress(OSError, sqlite3.DatabaseError):
                for end in ("", "-wal", "-shm"):
                    Path(f"{self._path}{end}").unlink(missing_ok=True)
                self._database = self._opened(self._path)
                return
        _LOG.warning(
            "%s cannot be used (%s); the metadata cache stays in memory", self._path, error
        )
        before, self._database = self._database, self._opened(_IN_MEMORY)
        with contextlib.suppress(sqlite3.DatabaseError):
            before.backup(self._database)

    def _do(self, act: Callable[[], _T]) -> _T:
        """Access the database; once more if the file was replaced as a result."""
        with self._ready():
            try:
                return act()
            except sqlite3.DatabaseError as error:
                self._replace(error)
            return act()

    def _row(self, text: str, *values: object) -> tuple[Any, ...] | None:
        def look() -> tuple[Any, ...] | None:
            row: tuple[Any, ...] | None = self._database.execute(text, values).fetchone()
            return row

        return self._do(look)

    def _add(self, text: str, rows: Iterable[Sequence[object]]) -> None:
        told = list(rows)

        def add() -> None:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(text, told)
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.DatabaseError):
                    self._database.execute("ROLLBACK")
                raise

        self._do(add)

    def _ready(self) -> threading.RLock:
        if self._process != os.getpid():
            self._start()
        return self._lock

    def node(self, cid: Cid) -> bytes | None:
        """The bytes of a node of a tree, commit or large value."""
        row = self._row("SELECT data FROM nodes WHERE cid = ?", cid)
        if row is None:
            return None
        data = bytes(row[0])
        if matches(cid, data):
            return data
        with self._ready():
            self._replace(sqlite3.DatabaseError("a node does not match its CID"))
        return None

    def add_nodes(self, nodes: Iterable[tuple[Cid, Bytes]]) -> None:
        """Add nodes."""
        self._add(
            "INSERT OR IGNORE INTO nodes VALUES (?, ?)", ((cid, bytes(data)) for cid, data in nodes)
        )

    def location(self, cid: Cid) -> ObjectLocation | None:
        """The location of a value."""
        near = self._near.get(cid)
        if near is not None:
            return near
        row = self._row("SELECT ref, path, size FROM places WHERE cid = ?", cid)
        if row is None:
            return None
        location = ObjectLocation(*row)
        self._keep_near([(cid, location)])
        return location

    def _keep_near(self, locations: Iterable[tuple[Cid, ObjectLocation]]) -> None:
        """Keep recent locations in memory, which saves database queries."""
        for cid, location in locations:
            if len(self._near) >= _NEAR_PLACES:
                self._near.clear()
            self._near[cid] = location

    def add_locations(self, locations: Iterable[tuple[Cid, ObjectLocation]]) -> None:
        """Add locations of values; the newest location of a value is used."""
        told = list(locations)
        self._add(
            "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)",
            ((cid, *location) for cid, location in told),
        )
        self._keep_near(told)

    def forget_location(self, cid: Cid) -> None:
        """Remove a location where a value is no longer found."""
        self._near.pop(cid, None)
        self._add("DELETE FROM places WHERE cid = ?", [(cid,)])

    def object(self, address: str, checksum: str) -> tuple[Cid, int] | None:
        """The CID and the cumulative size of an object's value, if it was hashed before."""
        row = self._row(
            "SELECT cid, tsize FROM objects WHERE address = ? AND checksum = ?", address, checksum
        )
        return None if row is None else (Cid(row[0]), row[1])

    def add_object(self, address: str, checksum: str, cid: Cid, tsize: int) -> None:
        """Add the result of hashing an object."""
        self._add(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", [(address, checksum, cid, tsize)]
        )

    def tree(self, commit: str) -> Link | None:
        """The root of the tree of a lakeFS commit."""
        row = self._row("SELECT root, tsize FROM trees WHERE id = ?", commit)
        return None if row is None else Link("", Cid(row[0]), row[1])

    def commit_with(self, root: Cid) -> str | None:
        """A lakeFS commit whose tree has this root."""
        row = self._row("SELECT id FROM trees WHERE root = ?", root)
        return None if row is None else str(row[0])

    def add_tree(self, commit: str, root: Link) -> None:
        """Add the tree of a lakeFS commit."""
        self._add("INSERT OR REPLACE INTO trees VALUES (?, ?, ?)", [(commit, root.cid, root.tsize)])

    def id_of(self, cid: Cid) -> str | None:
        """The lakeFS commit that represents a commit of ours."""
        row = self._row("SELECT id FROM commits WHERE cid = ?", cid)
        return None if row is None else str(row[0])

    def add_commit(self, cid: Cid, commit: str) -> None:
        """Record which lakeFS commit represents a commit of ours."""
        self._add("INSERT OR REPLACE INTO commits VALUES (?, ?)", [(cid, commit)])
