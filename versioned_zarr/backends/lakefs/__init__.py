"""The lakeFS backend: one object per key, on the server's own branches."""
