"""`python -m versioned_zarr.cli`."""

from versioned_zarr.cli import main

main()
