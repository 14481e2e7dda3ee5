"""Trees of lakeFS commits: read from listings, cached, and served as blocks."""
