"""Contract suites: one for each protocol, which everything that implements it must pass.

The tests of a backend subclass a suite and provide its fixtures; pytest runs the tests.
"""

from versioned_zarr.testing.backend_contract import BackendContract
from versioned_zarr.testing.block_store_contract import (
    BlockReadContract,
    BlockStoreContract,
    ReadOnlyBlocksContract,
)
from versioned_zarr.testing.maintenance_contract import MaintenanceContract
from versioned_zarr.testing.reading_contract import ReadingContract
from versioned_zarr.testing.ref_store_contract import RefStoreContract
from versioned_zarr.testing.repository_contract import RepositoryContract
from versioned_zarr.testing.session_store_contract import SessionStoreContract
from versioned_zarr.testing.storage_contract import StorageContract

__all__ = [
    "BackendContract",
    "BlockReadContract",
    "BlockStoreContract",
    "MaintenanceContract",
    "ReadOnlyBlocksContract",
    "ReadingContract",
    "RefStoreContract",
    "RepositoryContract",
    "SessionStoreContract",
    "StorageContract",
]
