"""zarr: snapshots and sessions as stores and mappings."""
