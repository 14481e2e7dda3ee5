"""Parallel copy: a few threads copy values and report progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

WORKERS = 8
"""How many values are copied at once if nobody says."""


@dataclass
class Progress:
    """How far a transfer is.

    Attributes:
        keys: how many keys are done.
        keys_total: how many there are.
        size_bytes: how many bytes are done.
        size_bytes_total: how many there are.
    """

    keys: int
    keys_total: int
    size_bytes: int
    size_bytes_total: int


OnProgress = Callable[[Progress], None]


def run_all(
    keys: list[str],
    work: Callable[[str], int],
    workers: int,
    progress: Progress,
    on_progress: OnProgress | None,
) -> None:
    """Do the work for all keys, few at a time; stops at the first failure, or when interrupted.

    The caller waits on a queue that holds no lock in Python: an interrupt within
    `concurrent.futures.wait` can leave a lock behind that the workers then wait for, for ever.
    """
    report = on_progress or (lambda progress: None)
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
            progress.size_bytes += result
            progress.keys += 1
            report(progress)
    finally:
        is_stopped = True
        for thread in threads:
            if thread.ident is not None:
                thread.join()
