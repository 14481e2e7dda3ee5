"""Folder packs: how packs in a shared folder are written and read faster than by requests.

A draft on the same file system becomes a pack by a second name, without a copy. The system reads
ahead and keeps what was read, so blocks are neither cached nor, unless the user asks, verified.
"""

from __future__ import annotations

import time
from typing import Final

from versioned_zarr.backends.objectstore.object_blocks import ObjectBlocks
from versioned_zarr.backends.objectstore.pack_catalogue import PackCatalogue
from versioned_zarr.backends.sharedfolder.shared_folder_storage import SharedFolderStorage
from versioned_zarr.blocks.packs.pack import PackWriter
from versioned_zarr.blocks.packs.pack_registry import new_name, pack_path
from versioned_zarr.blocks.protocol import Followable
from versioned_zarr.blocks.remote.range_reader import RangeReader
from versioned_zarr.ipld.cid import Cid, is_raw

_EXACT_BYTES: Final = 256 << 10
"""Ranges of this size are read alone: reading further ahead is the system's business."""


class FolderReader(RangeReader):
    """A `RangeReader` that combines only small reads."""

    def read(self, path: str, start: int, end: int) -> memoryview:
        """See `RangeReader.read`."""
        if end - start < _EXACT_BYTES:
            return super().read(path, start, end)
        return self._storage.read(path, start, end)


class FolderCatalogue(PackCatalogue):
    """A `PackCatalogue` of a shared folder.

    Args:
        files: the folder.
        hash_code: the multihash code of the repository.
    """

    def __init__(self, files: SharedFolderStorage, hash_code: int) -> None:
        super().__init__(files, hash_code)
        self._files = files

    def _new_reader(self) -> RangeReader:
        return FolderReader(self._storage)

    def put_draft(self, draft: Followable, root: Cid) -> str:
        """See `PackCatalogue.put_draft`: without a copy on the same file system.

        The file must not change any more. So it is copied if another process wrote it, because this
        one may write a tail of its own.
        """
        if not isinstance(draft, PackWriter) or draft.is_recovered or not draft.is_sound:
            return super().put_draft(draft, root)
        name = new_name()
        began_ns = time.monotonic_ns()
        tail = self._files.take(pack_path(name), draft, root)
        if tail is None:
            return super().put_draft(draft, root)
        self._put_at[name] = began_ns
        self._note_put(pack_path(name), draft.end + len(tail), memoryview(tail))
        return name


class FolderBlocks(ObjectBlocks):
    """`ObjectBlocks` without a cache, except of nodes in memory."""

    def _find(self, cid: Cid) -> memoryview | None:
        found = self._recent.get(cid)
        return self._completion.get(cid) if found is None and self._completion else found

    def _keep(self, cid: Cid, data: memoryview) -> None:
        if not is_raw(cid):
            super()._keep(cid, data)
