"""The shared folder backend: a repository in a folder that several machines mount.

On Lustre, GPFS, NFS or CephFS; a folder of this machine is one, too. The objects of the object
store backend are plain files in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from versioned_zarr.backends.objectstore.object_blocks import ObjectBlocks
from versioned_zarr.backends.objectstore.object_store_backend import ObjectStoreBackend
from versioned_zarr.backends.objectstore.pack_catalogue import PackCatalogue
from versioned_zarr.backends.sharedfolder.folder_packs import FolderBlocks, FolderCatalogue
from versioned_zarr.backends.sharedfolder.shared_folder_storage import SharedFolderStorage
from versioned_zarr.engine.backend import Verify
from versioned_zarr.engine.maintenance.collected import Collected, Collector, Marks, WholeValue
from versioned_zarr.engine.marker import SHARED, check_layout
from versioned_zarr.engine.progress import OnProgress


class SharedFolderBackend(ObjectStoreBackend):
    """A folder that several machines mount; see `ObjectStoreBackend`.

    Args:
        path: the path of the folder.
    """

    layout = SHARED

    def __init__(self, path: str | os.PathLike[str]) -> None:
        folder = Path(os.path.abspath(path))
        self._files = SharedFolderStorage(folder, folder.as_uri())
        # The system keeps what was read in memory, so nothing is cached on the disk.
        super().__init__(self._files, cache_bytes=0)

    def _check_layout(self, marker: bytes) -> None:
        check_layout(self.url, marker, SHARED)

    def _catalogue(self, hash_code: int) -> PackCatalogue:
        return FolderCatalogue(self._files, hash_code)

    def _blocks(self, verify: Verify) -> Callable[..., ObjectBlocks]:
        return partial(FolderBlocks, verify=verify == "always")

    def _collector(self, collector: Collector) -> Collector:
        return SweepingCollector(collector, self._files)


class SweepingCollector:
    """A `Collector` that also sweeps what killed writers left.

    Args:
        collector: does all else.
        files: the folder.
    """

    def __init__(self, collector: Collector, files: SharedFolderStorage) -> None:
        self._collector, self._files = collector, files

    def collect(
        self, marks: Marks, *, dry_run: bool, progress: OnProgress | None = None
    ) -> Collected:
        """See `Collector.collect`."""
        found = self._collector.collect(marks, dry_run=dry_run, progress=progress)
        if not dry_run:
            self._files.sweep()
        return found

    def repack(self, whole: Sequence[WholeValue], progress: OnProgress | None = None) -> Collected:
        """See `Collector.repack`."""
        return self._collector.repack(whole, progress)
