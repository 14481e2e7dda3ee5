"""Transfer: push, fetch, clone and CAR files between repositories."""
