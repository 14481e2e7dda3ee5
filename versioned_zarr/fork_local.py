"""Fork-local state: connections, threads and locks that a forked child recreates.

Windows has no forks, and nothing is recreated there.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class ForkLocal(Generic[T]):
    """An object created on first use, and again in a forked child. Thread-safe.

    Args:
        make: creates the object. Must not be a method of the owner, or both keep each other alive.
        end: called with the object when its owner is gone, but not when the process ends, because
            operations in progress may still need it.
    """

    def __init__(self, make: Callable[[], T], end: Callable[[T], object] | None = None) -> None:
        self._make, self._end = make, end
        self._made: dict[int, T] = {}

    def __call__(self) -> T:
        """The object of this process."""
        process = os.getpid()
        found = self._made.get(process)
        return self._new(process) if found is None else found

    def _new(self, process: int) -> T:
        new = self._make()
        # One of several threads wins. Not by a lock, which a fork may copy while it is held.
        found = self._made.setdefault(process, new)
        if self._end is not None and found is not new:
            self._end(new)
        elif self._end is not None:
            weakref.finalize(self, self._end, new).atexit = False
        return found


def at_fork(
    *,
    before: Callable[[], object] | None = None,
    after_in_child: Callable[[], object] | None = None,
) -> None:
    """Call functions at every fork from now on, where the system has forks.

    Args:
        before: called in the parent.
        after_in_child: called in the child.
    """
    if hasattr(os, "register_at_fork"):
        hooks = {"before": before, "after_in_child": after_in_child}
        os.register_at_fork(**{name: hook for name, hook in hooks.items() if hook is not None})


def renewed_after_fork(renew: Callable[[T], object]) -> weakref.WeakSet[T]:
    """A set of objects, each of which is recreated in a forked child.

    No thread of the parent runs there, neither one that holds a lock nor one that fetches.

    Args:
        renew: recreates one object. Runs in every forked child, so it must be fast.
    """
    known: weakref.WeakSet[T] = weakref.WeakSet()

    def renew_all() -> None:
        for each in list(known):
            renew(each)

    at_fork(after_in_child=renew_all)
    return known


class ForkSafeLock:
    """A reentrant lock that is never held by a thread that a fork left behind.

    If the thread that forks holds the lock, it keeps it in the child. If another thread holds it,
    the lock is free in the child; so the state that it guards must be valid after each assignment.
    """

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _renew(self) -> None:
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


_LOCKS = renewed_after_fork(ForkSafeLock._renew)


def threads(count: int, name: str) -> ForkLocal[ThreadPoolExecutor]:
    """A thread pool for each process."""
    return ForkLocal(
        lambda: ThreadPoolExecutor(count, name), lambda pool: pool.shutdown(wait=False)
    )


class ForkSafeFuture(Generic[T]):
    """The future of a call in a thread of this process; a forked child does not have it.

    Args:
        future: the future.
    """

    __slots__ = ("_future", "_process")

    def __init__(self, future: Future[T]) -> None:
        self._future, self._process = future, os.getpid()

    def here(self) -> Future[T] | None:
        """The future; None in a forked child, which must do the work again."""
        return self._future if self._process == os.getpid() else None
