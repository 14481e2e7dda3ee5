"""The command-line interface `vz`: git's commands, with git's meanings, for versioned Zarr."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; needs the extra `cli`."""
    try:
        from versioned_zarr.cli.app import run

        run()
    except KeyboardInterrupt:  # during imports; commands report it themselves
        sys.exit(130)
    except ImportError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit("vz: the command line needs click and rich: pip install 'versioned-zarr[cli]'")
