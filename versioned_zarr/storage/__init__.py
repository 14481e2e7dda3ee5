"""Storage: the protocols that a storage must implement."""
