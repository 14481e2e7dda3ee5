"""Contract suites that every storage, block store, ref store and repository must pass.

The tests of a backend subclass a suite and provide its fixtures; pytest runs the tests.
"""

from versioned_zarr.testing.block_store_contract import BlockStoreContract
from versioned_zarr.testing.maintenance_contract import MaintenanceContract
from versioned_zarr.testing.ref_store_contract import RefStoreContract
from versioned_zarr.testing.repository_contract import RepositoryContract
from versioned_zarr.testing.session_store_contract import SessionStoreContract
from versioned_zarr.testing.storage_contract import StorageContract

__all__ = [
    "BlockStoreContract",
    "MaintenanceContract",
    "RefStoreContract",
    "RepositoryContract",
    "SessionStoreContract",
    "StorageContract",
]
