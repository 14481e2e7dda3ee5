"""Real storages whose locks do something first: what else happens just then is no chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from versioned_zarr.storage.protocol import Storage


@contextmanager
def before_lock(
    storage: Storage,
    name: str,
    act: Callable[[], object],
    *,
    nth: int | None = 1,
    shared: bool = False,
) -> Iterator[None]:
    """Do something just before a lock is taken, by whatever object of this process.

    Args:
        storage: where the lock is; others of the same URL are meant too.
        name: which lock.
        act: what is done.
        nth: before which time, counted from 1; None for each time. It must come to that.
        shared: whether the lock is to be shared.
    """
    real = type(storage).lock
    times = 0
    is_acting = False

    def lock(
        self: Storage, name_: str, *, shared: bool = False, wait: bool = True
    ) -> AbstractContextManager[bool]:
        nonlocal times, is_acting
        if (self.url, name_, shared) == wanted and not is_acting:
            times += 1
            if nth in (None, times):
                is_acting = True
                try:
                    act()
                finally:
                    is_acting = False
        return real(self, name_, shared=shared, wait=wait)

    wanted = (storage.url, name, shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(storage), "lock", lock)
        yield
    assert times >= (nth or 1)


def is_free(storage: Storage, name: str, *, shared: bool = False) -> bool:
    """Whether a lock could be taken, alone or as one who shares it."""
    with storage.lock(name, shared=shared, wait=False) as is_held:
        return is_held
