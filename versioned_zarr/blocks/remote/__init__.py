"""Remote blocks: read-ahead, single-flight, and the lazy fetch of a partial clone."""
