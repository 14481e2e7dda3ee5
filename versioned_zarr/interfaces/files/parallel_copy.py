"""Parallel copy: a few threads copy values and report progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread

from versioned_zarr.engine.progress import OnProgress, Progress

WORKERS = 8
"""The default number of values copied in parallel."""


def run_all(
    keys: list[str],
    work: Callable[[str], int],
    workers: int,
    progress: Progress,
    tell: OnProgress | None,
) -> Progress:
    """Process all keys, a few in parallel; stops at the first failure, or when interrupted.

    Returns the progress at the end.

    The caller waits on a queue that holds no lock in Python: an interrupt within
    `concurrent.futures.wait` can leave a lock held, for which the workers would wait forever.
    """
    report = tell or (lambda progress: None)
    report(progress)
    left = iter(keys)
    results: SimpleQueue[int | BaseException] = SimpleQueue()
    is_stopped = False

    def run() -> None:
        for key in left:
            if is_stopped:
                return
            try:
                results.put(work(key))
            except BaseException as error:  # noqa: BLE001 - the caller raises it
                results.put(error)
                return

    threads = [Thread(target=run, name=f"copy-{i}") for i in range(max(1, workers))]
    try:
        for thread in threads:
            thread.start()
        for _ in keys:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            done, done_bytes = progress.done + 1, progress.done_bytes + result
            progress = replace(progress, done=done, done_bytes=done_bytes)
            report(progress)
        return progress
    finally:
        is_stopped = True
        for thread in threads:
            if thread.ident is not None:
                thread.join()
