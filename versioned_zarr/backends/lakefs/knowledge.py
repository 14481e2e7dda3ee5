"""What this machine found out about a lakeFS repository, so that it need not ask again.

One SQLite file, shared by processes. All of it can be found out anew: it may be removed at any
time. What it holds never changes, since lakeFS commits and objects do not.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage import Bytes

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
_WAIT_S = 30.0
_NEAR_PLACES = 1 << 16


class Place(NamedTuple):
    """Where a value lies: the path is whole, with the repository's prefix."""

    ref: str
    path: str
    size: int


class Knowledge:
    """See the module. Thread-safe; a forked child opens the file again.

    Args:
        path: the file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._near: dict[Cid, Place] = {}
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._database = sqlite3.connect(
            self._path, timeout=_WAIT_S, check_same_thread=False, isolation_level=None
        )
        weakref.finalize(self, self._database.close)
        self._database.execute("PRAGMA journal_mode=WAL")
        # What a crash of the machine takes is found out again.
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.executescript(_TABLES)

    def _row(self, text: str, *values: object) -> tuple[Any, ...] | None:
        with self._ready():
            row: tuple[Any, ...] | None = self._database.execute(text, values).fetchone()
            return row

    def _add(self, text: str, rows: Iterable[Sequence[object]]) -> None:
        with self._ready():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._database.executemany(text, rows)
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _ready(self) -> threading.RLock:
        if self._process != os.getpid():
            self._start()
        return self._lock

    def node(self, cid: Cid) -> bytes | None:
        """The bytes of a tree's, commit's or large value's node."""
        row = self._row("SELECT data FROM nodes WHERE cid = ?", cid)
        return None if row is None else bytes(row[0])

    def add_nodes(self, nodes: Iterable[tuple[Cid, Bytes]]) -> None:
        """Remember nodes."""
        self._add(
            "INSERT OR IGNORE INTO nodes VALUES (?, ?)", ((cid, bytes(data)) for cid, data in nodes)
        )

    def place(self, cid: Cid) -> Place | None:
        """Where a value of this CID lies."""
        near = self._near.get(cid)
        if near is not None:
            return near
        row = self._row("SELECT ref, path, size FROM places WHERE cid = ?", cid)
        if row is None:
            return None
        place = Place(*row)
        self._keep_near([(cid, place)])
        return place

    def _keep_near(self, places: Iterable[tuple[Cid, Place]]) -> None:
        """Spare the database what was asked or said lately."""
        for cid, place in places:
            if len(self._near) >= _NEAR_PLACES:
                self._near.clear()
            self._near[cid] = place

    def add_places(self, places: Iterable[tuple[Cid, Place]]) -> None:
        """Remember where values lie; the newest place counts."""
        told = list(places)
        self._add(
            "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?)",
            ((cid, *place) for cid, place in told),
        )
        self._keep_near(told)

    def forget_place(self, cid: Cid) -> None:
        """A value is not where it was."""
        self._near.pop(cid, None)
        self._add("DELETE FROM places WHERE cid = ?", [(cid,)])

    def object(self, address: str, checksum: str) -> tuple[Cid, int] | None:
        """The CID and the cumulative size of what an object holds that was hashed before."""
        row = self._row(
            "SELECT cid, tsize FROM objects WHERE address = ? AND checksum = ?", address, checksum
        )
        return None if row is None else (Cid(row[0]), row[1])

    def add_object(self, address: str, checksum: str, cid: Cid, tsize: int) -> None:
        """Remember what an object hashed to."""
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
        """Remember the tree of a lakeFS commit."""
        self._add("INSERT OR REPLACE INTO trees VALUES (?, ?, ?)", [(commit, root.cid, root.tsize)])

    def id_of(self, cid: Cid) -> str | None:
        """The lakeFS commit that stands for a commit of ours."""
        row = self._row("SELECT id FROM commits WHERE cid = ?", cid)
        return None if row is None else str(row[0])

    def add_commit(self, cid: Cid, commit: str) -> None:
        """Remember which lakeFS commit stands for a commit of ours."""
        self._add("INSERT OR REPLACE INTO commits VALUES (?, ?)", [(cid, commit)])
