"""The repository protocol: the public interface, whichever backend holds it.

`BlockRepository` keeps blocks and refs itself; a server that has versions of its own may answer
to the same. The contract suite `versioned_zarr.testing.RepositoryContract` says what each means.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Protocol

from versioned_zarr.engine.hierarchy.diff import Diff
from versioned_zarr.engine.hierarchy.merge.three_way import Resolve
from versioned_zarr.engine.maintenance.repack import Collected
from versioned_zarr.engine.maintenance.report import Report
from versioned_zarr.engine.maintenance.stats import Stats
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.engine.ref_mappings import Branches, Tags
from versioned_zarr.engine.remotes import Remotes
from versioned_zarr.engine.sessions.protocol import SessionInfo
from versioned_zarr.engine.transfer.push_fetch import Transfer
from versioned_zarr.engine.transfer.sender import OnMoving
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.log import Log
from versioned_zarr.history.refs import RefEntry
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot


class Repository(Protocol):
    """See `BlockRepository` for what each method does, costs and raises."""

    url: str

    @property
    def branches(self) -> Branches: ...
    @property
    def tags(self) -> Tags: ...
    def checkout(self, ref: str = "main") -> Snapshot: ...
    def log(self, ref: str = "main", *, path: str | None = None) -> Log: ...
    def diff(self, base: str, other: str | None = None) -> Diff: ...
    def reflog(self, branch: str = "main") -> Iterator[RefEntry]: ...
    def publish(self, ref: str = "main", *, key: str | None = None) -> str: ...
    def resolve(self, name: str) -> Snapshot: ...
    def session(
        self, branch: str = "main", message: str | None = None, *, purpose: str = ""
    ) -> Session: ...
    def sessions(self) -> list[SessionInfo]: ...
    def resume(self, id: str, message: str | None = None, *, mend: bool = True) -> Session: ...
    def drop(self, id: str) -> None: ...
    def merge(
        self,
        source: str,
        into: str = "main",
        message: str | None = None,
        resolve: Resolve = None,
        *,
        author: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Commit: ...
    def revert(self, commit: str, branch: str = "main", *, resolve: Resolve = None) -> Commit: ...
    def cherry_pick(
        self, commit: str, branch: str = "main", *, resolve: Resolve = None
    ) -> Commit: ...
    def squash(self, since: str, branch: str = "main", message: str | None = None) -> Commit: ...
    @property
    def remotes(self) -> Remotes: ...
    def push(
        self,
        to: str | os.PathLike[str],
        refs: str | Sequence[str] | None = None,
        *,
        force_with_lease: bool | str | None = None,
        progress: OnMoving | None = None,
    ) -> Transfer: ...
    def fetch(
        self,
        source: str | os.PathLike[str],
        refs: str | Sequence[str] | None = None,
        *,
        progress: OnMoving | None = None,
    ) -> Transfer: ...
    def pull(
        self,
        source: str | os.PathLike[str],
        refs: str | Sequence[str] | None = None,
        *,
        resolve: Resolve = None,
        progress: OnMoving | None = None,
    ) -> Transfer: ...
    def export_car(
        self,
        ref: str,
        path: str | os.PathLike[str],
        *,
        history: bool = False,
        since: str | None = None,
        version: int = 1,
        progress: OnMoving | None = None,
    ) -> str: ...
    def import_car(
        self,
        path: str | os.PathLike[str],
        *,
        as_branch: str | None = None,
        progress: OnMoving | None = None,
    ) -> list[str]: ...
    def gc(
        self,
        *,
        keep_reflog: timedelta = timedelta(days=30),
        dry_run: bool = False,
        progress: OnProgress | None = None,
    ) -> Collected: ...
    def repack(self, *, progress: OnProgress | None = None) -> Collected: ...
    def fsck(self, *, read_all: bool = True, progress: OnProgress | None = None) -> Report: ...
    def stats(self) -> Stats: ...
