"""Interfaces: snapshots and sessions as zarr stores, files, web pages and notebook output."""
