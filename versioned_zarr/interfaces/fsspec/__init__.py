"""fsspec: branches and commits as file systems."""
