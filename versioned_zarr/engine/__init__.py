"""The engine: operations on commits, refs and sessions; independent of zarr."""
