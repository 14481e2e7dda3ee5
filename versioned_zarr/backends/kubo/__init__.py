"""A Kubo node as the home of repositories: its blockstore for blocks, its MFS for refs."""

from versioned_zarr.backends.kubo.blocks import KuboBlocks
from versioned_zarr.backends.kubo.client import KuboClient
from versioned_zarr.backends.kubo.refs import MfsRefs

__all__ = ["KuboBlocks", "KuboClient", "MfsRefs"]
