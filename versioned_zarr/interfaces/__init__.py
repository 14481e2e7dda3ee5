"""How zarr, xarray, notebooks and plain folders see snapshots and sessions."""
