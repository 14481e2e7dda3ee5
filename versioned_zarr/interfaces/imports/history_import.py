"""History import: commits the revisions of another version control system, one by one.

The metadata of each commit names its revision, under "import". So an import that is called again
finds what is there already, on all branches and tags, and adds the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from versioned_zarr.engine.hierarchy.zarr_nodes import join
from versioned_zarr.engine.progress import Progress
from versioned_zarr.errors import AlreadyExistsError, SessionNotFoundError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.interfaces.files.import_session import check_target
from versioned_zarr.interfaces.files.parallel_copy import run_all
from versioned_zarr.interfaces.imports.import_request import ImportRequest
from versioned_zarr.repository.session import Session


@dataclass(frozen=True)
class Revision:
    """What a revision changes.

    Attributes:
        id: its name in its own system.
        message: its message.
        author: its author; None for the default author.
        facts: more that its commit records: JSON.
        sizes: the keys that it writes, with the sizes of their values in bytes; None if unknown.
        removed: keys that it removes.
        remaining: for some folders, all keys in and below them after the revision.
        read: returns the value of a key; None if the revision removed it. Called from several
            threads.
    """

    id: str
    message: str
    author: str | None
    facts: Mapping[str, Any]
    sizes: Mapping[str, int | None]
    removed: Sequence[str]
    remaining: Mapping[str, Collection[str]]
    read: Callable[[str], bytes | None]


class HistoryImport:
    """An import of revisions.

    Args:
        request: what to import.
        format_name: the format, as in `FORMATS`.
        name: the unique name of the source.
    """

    def __init__(self, request: ImportRequest, format_name: str, name: str) -> None:
        self._request = request
        self._format = format_name
        self._name = name
        self._purpose = f"import {name} into /{request.path}: revision "
        self._progress = Progress("keys", 0, 0, total_bytes=0)
        self.commits = self._imported()
        self._end_old_sessions()

    def _imported(self) -> dict[str, Commit]:
        """The commits of earlier imports by the names of their revisions. O(the history)."""
        repository, found = self._request.repository, dict[str, Commit]()
        heads = {*repository.branches.values(), *repository.tags.values()}
        seen: set[str] = set()
        for head in heads:
            for commit in repository.log(head):
                if commit.cid in seen:
                    break
                seen.add(commit.cid)
                facts = commit.metadata.get("import")
                if isinstance(facts, dict) and self._is_same(facts):
                    found[str(facts["revision"])] = commit
        return found

    def _is_same(self, facts: Mapping[str, Any]) -> bool:
        return (
            facts.get("format") == self._format
            and facts.get("path") == self._request.path
            and "revision" in facts
        )

    def _end_old_sessions(self) -> None:
        """Delete sessions of revisions that were committed before their process died."""
        sessions = self._request.repository.sessions
        for info in list(sessions.values()):
            if info.purpose.removeprefix(self._purpose) in self.commits and not info.is_alive:
                with suppress(SessionNotFoundError):
                    sessions.delete(info.id)

    def check_branch(self, branch: str, revisions: Sequence[str]) -> None:
        """Check that the new revisions of a branch can follow its head.

        Args:
            branch: a branch of the repository.
            revisions: the names of its revisions, the oldest first.

        Raises:
            AlreadyExistsError: the branch has other commits, or other data at the path.
            InvalidInputError: see `check_target`.
        """
        known = [self.commits[each] for each in revisions if each in self.commits]
        is_complete = bool(revisions) and revisions[-1] in self.commits
        repository, path = self._request.repository, self._request.path
        head = repository.branches[branch]
        check_target(repository.checkout(branch), path)
        if is_complete or (known and known[-1].cid == head.cid):
            return
        if known:
            raise AlreadyExistsError(
                f"branch {branch!r} is at {head.cid}, not at {known[-1].cid}, where an earlier "
                "import left it; import into another repository, or move the branch back",
                name=branch,
            )
        if not self._request.overwrite and not repository.checkout(branch).is_empty(path):
            raise AlreadyExistsError(
                f"{repr(path) if path else 'the root'} of branch {branch!r} is not empty; "
                "choose another path, or pass overwrite=True",
                name=path,
            )

    def expect(self, revision: Revision) -> None:
        """Add what a revision writes to the total of the progress, and report that."""
        sizes = revision.sizes.values()
        total, total_bytes = self._progress.total or 0, self._progress.total_bytes
        if None in sizes:
            total_bytes = None
        elif total_bytes is not None:
            total_bytes += sum(size or 0 for size in sizes)
        self._progress = replace(self._progress, total=total + len(sizes), total_bytes=total_bytes)
        if self._request.progress is not None:
            self._request.progress(self._progress)

    def add(self, branch: str, revision: Revision) -> Commit:
        """Commit a revision to a branch. Resumes a session that an earlier attempt left."""
        path = self._request.path
        session = self._session(branch, revision)
        with session:
            there = {key for key, _ in session._working.changed()}  # by an earlier attempt
            for folder, remaining in revision.remaining.items():
                kept = {join(path, key) for key in remaining}
                for key in [*session.keys(join(path, folder).strip("/"))]:
                    if key not in kept:
                        session.delete(key)
            for key in revision.removed:
                session.delete(join(path, key))
            self._copy(session, revision, there)
            facts = {
                "format": self._format,
                "source": self._name,
                "path": path,
                "revision": revision.id,
                **revision.facts,
            }
            commit = session.commit(
                revision.message,
                author=revision.author,
                metadata={"import": facts},
                allow_empty=True,
                on_moved="fail",
            )
        self.commits[revision.id] = commit
        return commit

    def _copy(self, session: Session, revision: Revision, there: set[str]) -> None:
        path = self._request.path

        def copy(key: str) -> int:
            data = revision.read(key)
            if data is None:
                session.delete(join(path, key))
                return 0
            session.write(join(path, key), data)
            return len(data)

        waiting = [key for key in revision.sizes if join(path, key) not in there]
        held = len(revision.sizes) - len(waiting)
        held_bytes = sum(revision.sizes[key] or 0 for key in revision.sizes.keys() - set(waiting))
        start = replace(
            self._progress,
            done=self._progress.done + held,
            done_bytes=self._progress.done_bytes + held_bytes,
        )
        self._progress = run_all(
            waiting, copy, self._request.workers, start, self._request.progress
        )

    def _session(self, branch: str, revision: Revision) -> Session:
        """The session of an earlier attempt at a revision, or a new one."""
        repository, purpose = self._request.repository, self._purpose + revision.id
        head = repository.branches[branch].cid
        for info in list(repository.sessions.values()):
            if info.purpose == purpose and not info.is_alive:
                left = repository.resume(info.id)
                if (info.branch, left.base.cid) == (branch, head):
                    return left
                left.discard()
        return repository.session(branch, purpose=purpose)
