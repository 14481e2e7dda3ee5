"""Imports of formats other than plain Zarr, one module for each."""
