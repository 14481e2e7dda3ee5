"""Work that nobody waits for is done, in few threads, and never holds up the end."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from versioned_zarr.blocks.remote.daemon_pool import DaemonPool


def test_more_work_than_threads_is_all_done() -> None:
    background = DaemonPool(3)
    names: set[str] = set()
    done = threading.Semaphore(0)

    def work() -> None:
        names.add(threading.current_thread().name)
        done.release()

    for _ in range(100):
        background.do(work)
    assert all(done.acquire(timeout=10) for _ in range(100))
    assert 1 <= len(names) <= 3


def test_a_thread_is_used_again() -> None:
    background = DaemonPool(4)
    names: set[str] = set()
    for _ in range(20):
        done = threading.Event()

        def work(done: threading.Event = done) -> None:
            names.add(threading.current_thread().name)
            done.set()

        background.do(work)
        assert done.wait(10)
        assert background._idle.acquire(timeout=10)  # the thread waits for work again
        background._idle.release()
    assert len(names) == 1


def test_threads_end_with_who_had_them() -> None:
    before = set(threading.enumerate())
    background = DaemonPool(4)
    gate = threading.Barrier(5)
    for _ in range(4):
        background.do(lambda: gate.wait(10))
    gate.wait(10)
    threads = set(threading.enumerate()) - before
    assert len(threads) == 4
    del background
    gc.collect()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("work", ["time.sleep(600)", "None"])
def test_the_process_ends_whatever_is_being_done(work: str) -> None:
    code = (
        "import time\nfrom versioned_zarr.blocks.remote.daemon_pool import DaemonPool\n"
        f"b = DaemonPool(2)\nb.do(lambda: {work})\ntime.sleep(0.1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
