"""The plain text of repositories, snapshots and sessions: what `print` shows.

The counterpart of the HTML in `notebook`, also of bounded length.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from versioned_zarr.history.log import Log
from versioned_zarr.interfaces.display.graph import log_text
from versioned_zarr.interfaces.display.outline import LIMIT, named_shape, nodes_of
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.terminal_text import counted, escaped_line

_NAMES = 20


def text_of(shown: object) -> str:
    """The text of an object of this package.

    Raises:
        TypeError: this type has no text.
    """
    match shown:
        case Repository():
            return repository_text(shown)
        case Snapshot():
            return snapshot_text(shown)
        case Session():
            return session_text(shown)
        case Log():
            return log_text(shown)
    raise TypeError(f"no text for {type(shown).__name__}")


def repository_text(repository: Repository) -> str:
    """Its URL, branches, tags and uncommitted sessions."""
    lines = [
        (word, name, commit.cid, commit.summary)
        for word, refs in (("branch", repository.branches), ("tag", repository.tags))
        for name, commit in refs.items()
    ]
    lines += [
        ("session", info.id, f"on {info.branch}, {counted(info.keys, 'key')}", info.purpose)
        for info in repository.sessions.values()
    ]
    head = escaped_line(f"Repository {repository.url}")
    return "\n".join([head, *_aligned(lines, _NAMES)])


def snapshot_text(snapshot: Snapshot) -> str:
    """Its name, its commit if it has one, and its nodes."""
    head = [f"Snapshot {snapshot.cid} of {snapshot.repository.url}"]
    if snapshot.commit is not None:
        head.append(f"  of commit {snapshot.commit.cid}: {snapshot.commit.summary}")
    lines = []
    for node in islice(nodes_of(snapshot), LIMIT + 1):
        shape, dtype = named_shape(node), node.fields.get("dtype", "")
        what = ("array", shape, str(dtype)) if node.is_array else ("group", "", "")
        lines.append((node.path or "/", *what))
    if not lines:
        lines = [(name, "", "", "") for name in snapshot.list_dir()]
    return "\n".join([*map(escaped_line, head), *_aligned(lines, LIMIT)])


def session_text(session: Session) -> str:
    """Its target branch and its changes."""
    state = session._working.closed
    head = escaped_line(
        f"Session {session.id} on {session.branch} of {session.repository.url}, {state or 'open'}"
    )
    return head if state is not None else f"{head}\n{session.status()}"


def _aligned(lines: Sequence[Sequence[str]], limit: int) -> list[str]:
    shown = [list(map(escaped_line, line)) for line in lines[:limit]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    text = [
        "  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)) for line in shown
    ]
    more = [f"… and {len(lines) - limit} more"] if len(lines) > limit else []
    return [f"  {line.rstrip()}" for line in text + more]
