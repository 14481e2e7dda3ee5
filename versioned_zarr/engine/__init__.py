"""The engine: what a repository does with commits, refs and sessions; knows no zarr."""
