"""The contract suites: what every storage, block store, ref store and repository must do.

A backend's tests subclass a suite and give it a fixture; pytest then runs the lot.
"""

from versioned_zarr.testing.block_store import BlockStoreContract
from versioned_zarr.testing.ref_store import RefStoreContract
from versioned_zarr.testing.repository import RepositoryContract
from versioned_zarr.testing.storage import StorageContract
from versioned_zarr.testing.upkeep import UpkeepContract

__all__ = [
    "BlockStoreContract",
    "RefStoreContract",
    "RepositoryContract",
    "StorageContract",
    "UpkeepContract",
]
