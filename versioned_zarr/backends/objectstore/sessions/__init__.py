"""Sessions in an object store, which many machines share."""
