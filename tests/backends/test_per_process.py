"""What each process has its own of is made once in each, and ended with who holds it."""

from __future__ import annotations

import gc
import os
import threading

from versioned_zarr.fork_local import ForkLocal, renewed_after_fork, threads


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
