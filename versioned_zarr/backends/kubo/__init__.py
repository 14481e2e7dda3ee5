"""A Kubo node as a backend: its blockstore holds blocks, its MFS holds refs."""

from versioned_zarr.backends.kubo.client import KuboClient
from versioned_zarr.backends.kubo.kubo_blocks import KuboBlocks
from versioned_zarr.backends.kubo.mfs_refs import MfsRefs

__all__ = ["KuboBlocks", "KuboClient", "MfsRefs"]
