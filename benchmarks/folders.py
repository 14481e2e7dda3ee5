"""Folders to measure in, and when they go."""

from __future__ import annotations

import atexit
import gc
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(*, keep: bool = False) -> Iterator[Path]:
    """An empty folder in the working directory.

    Args:
        keep: remove it when the process ends, and not at once, which falls on whoever is measured
            next. ext4 looks at every inode that was freed in the last minutes for each file that it
            makes: where thousands of files were removed, making one takes 0.7 ms, not 0.02. And a
            disk that is told of what was freed lets syncs wait.
    """
    folder = Path(tempfile.mkdtemp(dir=Path.cwd(), prefix=".benchmark-"))
    if keep:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        yield folder
    finally:
        if not keep:
            gc.collect()  # a cache that nobody holds any more writes what it has in memory
            shutil.rmtree(folder, ignore_errors=True)
