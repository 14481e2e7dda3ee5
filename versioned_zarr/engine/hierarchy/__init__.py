"""Zarr hierarchies: nodes, their diff and their merge, read from keys and JSON alone."""
