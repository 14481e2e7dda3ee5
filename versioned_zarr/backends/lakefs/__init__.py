"""Repositories on a lakeFS server: one object for each key, on the server's own branches."""
