"""Block caches: on disk, in memory, and the write buffer in front of them."""
