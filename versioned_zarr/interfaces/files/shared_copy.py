"""Shared copy: workers in other processes copy shares of a source into one session.

Each share is a task of an executor. A task that runs twice, or in a worker that was killed, does no
harm: it writes the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, Protocol

from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.interfaces.files.parallel_copy import run_all
from versioned_zarr.interfaces.files.sources import Source
from versioned_zarr.repository.session import Session

_SHARES: Final = 16
"""The least number of shares, unless that makes them small."""
_SHARE_BYTES: Final = (4 << 20, 256 << 20)
_SHARE_KEYS: Final = (64, 8192)
_AT_ONCE: Final = 64
"""The number of tasks that an executor has at a time."""


class SubmittedTask(Protocol):
    """A future of `concurrent.futures` or of Dask's `distributed`."""

    def result(self) -> Any:
        """What the task returned; raises what it raised."""
        ...

    def cancel(self) -> Any:
        """Do not run it if it has not begun."""
        ...

    def add_done_callback(self, fn: Callable[[Any], Any], /) -> Any:
        """Call a function with the future once it is done or cancelled."""
        ...


class TaskExecutor(Protocol):
    """Runs tasks in other processes: a `ProcessPoolExecutor`, or a `distributed.Client`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Run a function; returns a `SubmittedTask`."""
        ...


class CopiedShare(NamedTuple):
    """The number of values in a share, and their size in bytes."""

    keys: int
    size_bytes: int


def copy_shared(
    session: Session,
    source: Source,
    names: Mapping[str, str],
    executor: TaskExecutor,
    *,
    workers: int,
    progress: Progress,
    tell: OnProgress | None,
) -> None:
    """Copy values into a session by the workers of an executor; stops at the first failure.

    Args:
        session: the session; each task has a pickled copy.
        source: the source; each task has a pickled copy of its share.
        names: the keys in the session to be written, and the keys in the source.
        executor: runs the tasks.
        workers: the number of values that a task copies in parallel.
        progress: what is done already.
        tell: called after each share.
    """
    report = tell or (lambda progress: None)
    report(progress)
    done: SimpleQueue[SubmittedTask] = SimpleQueue()
    running: list[SubmittedTask] = []
    waiting = shares(source, names)
    try:
        while True:
            while len(running) < _AT_ONCE and (share := next(waiting, None)) is not None:
                only = source.only(share.values())
                task = executor.submit(copy_share, session, only, share, workers)
                running.append(task)
                task.add_done_callback(done.put)
            if not running:
                return
            task = done.get()
            running.remove(task)
            copied: CopiedShare = task.result()
            keys, size = progress.done + copied.keys, progress.done_bytes + copied.size_bytes
            progress = replace(progress, done=keys, done_bytes=size)
            report(progress)
    finally:
        # Those that run still would write into a session that has ended.
        for task in running:
            task.cancel()
        for task in running:
            with suppress(Exception, CancelledError):
                task.result()


def shares(source: Source, names: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Parts of `names`, of similar size, such that several workers have something to do."""
    total = sum(source.sizes[name] for name in names.values())
    most_bytes = min(max(total // _SHARES, _SHARE_BYTES[0]), _SHARE_BYTES[1])
    most_keys = min(max(len(names) // _SHARES, _SHARE_KEYS[0]), _SHARE_KEYS[1])
    share: dict[str, str] = {}
    size = 0
    for key, name in names.items():
        share[key] = name
        size += source.sizes[name]
        if size >= most_bytes or len(share) >= most_keys:
            yield share
            share, size = {}, 0
    if share:
        yield share


def copy_share(
    session: Session, source: Source, names: Mapping[str, str], workers: int
) -> CopiedShare:
    """Copy a share, in a worker; afterwards the session does not wait for this process."""

    def copy(key: str) -> int:
        data = source.read(names[key])
        session.write(key, data)
        return len(data)

    try:
        copied = run_all(list(names), copy, workers, Progress("keys", 0, len(names)), None)
    finally:
        session._working.release()
    return CopiedShare(copied.done, copied.done_bytes)
