"""What each process has its own of is made once in each, and ended with who holds it."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import versioned_zarr
from versioned_zarr.fork_local import ForkLocal, ForkSafeLock, renewed_after_fork, threads


def test_it_is_made_when_it_is_asked_for_and_once() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(os.getpid())
        return made[-1]

    own = ForkLocal(make)
    assert not made
    assert [own(), own()] == [os.getpid()] * 2
    assert len(made) == 1


def test_of_threads_that_come_at_once_all_get_the_same_and_the_rest_is_ended() -> None:
    at_once = threading.Barrier(8)
    made: list[object] = []
    ended: list[object] = []

    def make() -> object:
        at_once.wait(60)
        made.append(object())
        return made[-1]

    own = ForkLocal(make, ended.append)
    got: list[object] = []
    crowd = [threading.Thread(target=lambda: got.append(own())) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)
    assert len(made) == 8
    assert set(map(id, got)) == {id(own())}
    assert len(ended) == 7
    assert own() not in ended


def test_it_is_ended_with_who_holds_it() -> None:
    ended: list[int] = []
    assert ForkLocal(lambda: 7, ended.append)() == 7
    gc.collect()
    assert ended == [7]


def test_a_forked_child_has_threads_of_its_own() -> None:
    pool = threads(1, "test")
    assert pool().submit(os.getpid).result(60) == os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(0 if pool().submit(os.getpid).result(60) == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_in_a_forked_child_all_that_are_alive_are_made_anew() -> None:
    class Guarded:
        is_new = False

    def renew(guarded: Guarded) -> None:
        guarded.is_new = True

    known = renewed_after_fork(renew)
    alive, gone = Guarded(), Guarded()
    known.add(alive)
    known.add(gone)
    del gone
    child = os.fork()
    if child == 0:
        os._exit(0 if alive.is_new and len(known) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not alive.is_new


def in_a_child(check: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a child that waits forever is ended
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_lock_that_another_thread_held_is_free_in_a_forked_child() -> None:
    lock = ForkSafeLock()
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            may_go.wait(60)

    def is_free() -> bool:
        with lock, lock:
            return True

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_held.wait(60)
    assert in_a_child(is_free)
    may_go.set()
    thread.join(60)
    assert is_free()


def test_a_lock_that_the_forking_thread_holds_is_held_in_the_child_too() -> None:
    lock = ForkSafeLock()

    def is_taken() -> bool:
        got: list[bool] = []

        def enter() -> None:
            with lock:
                got.append(True)

        thread = threading.Thread(target=enter, daemon=True)
        thread.start()
        thread.join(0.2)
        was_free = bool(got)
        lock.__exit__()
        thread.join(60)
        return not was_free and got == [True]

    with lock:
        assert in_a_child(is_taken)


def test_no_lock_of_the_package_is_left_held_in_a_forked_child() -> None:
    renewed = {
        "fork_local.py",
        "backends/local/plain.py",  # of systems without forks
        "blocks/remote/daemon_pool.py",  # with the read-ahead that owns it
        "backends/lakefs/trees/metadata_cache.py",  # opens its database again
        "backends/lakefs/trees/value_readahead.py",
        "backends/lakefs/sessions/write_gate.py",  # with the session
        "engine/sessions/local_session.py",
        "engine/stored_sessions/spooled_session.py",
        "engine/stored_sessions/stored_session.py",
    }
    package = Path(versioned_zarr.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"threading\.R?Lock\(", path.read_text())
    }
    assert found == renewed
