"""Storage: the protocols that a place must meet."""
