"""New objects: creates an object, and finds out whether it exists if the store is not sure."""

from __future__ import annotations

import time
from typing import Final

from versioned_zarr.errors import StorageError
from versioned_zarr.storage.conditional_store import ConditionalStore

_PAUSES_S: Final = (0.05, 0.1, 0.3, 1.0)


def create_new(storage: ConditionalStore, path: str, data: bytes) -> None:
    """Create an object.

    A store may also refuse to create an object because another request that is to create it is
    under way, and may then fail. So after a refusal, the object is looked for.

    Raises:
        FileExistsError: it exists.
        StorageError: the outcome may be unknown.
    """
    for pause_s in _PAUSES_S:
        try:
            storage.create(path, data)
        except FileExistsError:
            if _exists(storage, path):
                raise
            time.sleep(pause_s)
        else:
            return
    raise StorageError(
        f"{storage.url!r} did not create {path!r}: it says that another operation on that object "
        "is under way; try again",
        where=storage.url,
    )


def _exists(storage: ConditionalStore, path: str) -> bool:
    try:
        storage.read(path, 0, 1)
    except FileNotFoundError:
        return False
    return True
