"""Condemned packs: which packs a garbage collection is about to delete.

`condemned/NAME` is written before the fences and removed after the packs. A writer that counts on
blocks of others reads all such lists after its branch's head, and uses no pack in them.
docs/design/object-stores.md shows the bytes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

from versioned_zarr.blocks.packs.pack_registry import new_name
from versioned_zarr.errors import CorruptError, ReadOnlyError
from versioned_zarr.fork_local import ForkLocal, threads
from versioned_zarr.storage.checked_line import checked_line, text_in
from versioned_zarr.storage.conditional_store import ConditionalStore

CONDEMNED: Final = "condemned"
_AT_ONCE: Final = 4


class CondemnedPacks:
    """The lists of condemned packs in an object store. Thread-safe.

    Args:
        storage: the objects.
    """

    def __init__(self, storage: ConditionalStore) -> None:
        self._storage = storage
        self._workers: ForkLocal[ThreadPoolExecutor] = threads(_AT_ONCE, "vz-condemned")

    def read(self) -> Mapping[str, frozenset[str]]:
        """The condemned packs by the name of each list; a request, and one for each list.

        Raises:
            CorruptError: a list is damaged, so that it is unknown which packs it condemns.
        """
        with suppress(ReadOnlyError):  # who may not write counts on no list
            self._storage.renew(CONDEMNED)
        return self._read()

    def read_now(self) -> Mapping[str, frozenset[str]]:
        """As `read`, by a list that is not older than this call, for those who write.

        Raises:
            ReadOnlyError: there is no permission to write.
        """
        self._storage.renew(CONDEMNED)
        return self._read()

    def _read(self) -> Mapping[str, frozenset[str]]:
        names = [stored.path.rpartition("/")[2] for stored in self._storage.list(CONDEMNED)]
        if not names:
            return {}
        self._storage.check_process()
        found = zip(names, self._workers().map(self._packs_in, names), strict=True)
        return {name: packs for name, packs in found if packs is not None}

    def _packs_in(self, name: str) -> frozenset[str] | None:
        """The packs in a list; None if it was removed."""
        path = f"{CONDEMNED}/{name}"
        try:
            text = text_in(bytes(self._storage.read(path)))
        except FileNotFoundError:
            return None
        try:
            if text is None:
                raise ValueError("its checksum does not match")
            document: Any = json.loads(text)
            return frozenset(map(str, document["packs"]))
        except (ValueError, LookupError, TypeError) as error:
            raise CorruptError(
                f"{path!r} of {self._storage.url!r} is damaged ({error}), so it is unknown which "
                "packs a gc is deleting; once no gc runs, delete that object",
                where=path,
            ) from error

    def check_permission(self) -> None:
        """Check that objects may be deleted, with one request.

        Raises:
            ReadOnlyError: the store denies it.
        """
        self.remove(new_name())

    def add(self, packs: Collection[str]) -> str:
        """Condemn packs; returns the name of the list."""
        name = new_name()
        self._storage.put(f"{CONDEMNED}/{name}", [encode_list(packs)])
        return name

    def remove(self, name: str) -> None:
        """Remove a list of which no pack exists any more, or whose packs will not be deleted."""
        self._storage.delete(f"{CONDEMNED}/{name}")


def encode_list(packs: Collection[str]) -> bytes:
    """A list of condemned packs as a line of JSON, with its checksum."""
    text = json.dumps({"packs": sorted(packs)}, separators=(",", ":")).encode("ascii")
    return checked_line(text)
