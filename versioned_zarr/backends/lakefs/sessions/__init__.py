"""Sessions on lakeFS: hidden branches, and the session store that lists them."""
