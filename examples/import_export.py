"""Import and export plain Zarr: bytes are copied key by key, never decoded."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import zarr

import versioned_zarr as vz

folder = Path(tempfile.mkdtemp())

# Existing data in both Zarr formats, with one file that does not belong to Zarr.
for number in (2, 3):
    group = zarr.create_group(str(folder / f"v{number}.zarr"), zarr_format=number)
    group.create_array("x", data=np.random.default_rng(number).random((200, 300)), chunks=(50, 50))
(folder / "v3.zarr" / "README.txt").write_text("Ask before use.\n")


def show(progress: vz.Progress) -> None:
    """Called as values arrive; the command `vz import` draws a bar from it."""
    if progress.done == progress.total:
        print(f"{progress.done} {progress.unit}, {progress.done_bytes:,} bytes")


# A source can be a folder or any URL that fsspec supports. To resume an interrupted import, call it
# again.
repo = vz.create(folder / "archive.vz")
for number in (2, 3):
    source = folder / f"v{number}.zarr"
    message = f"Original data: {source.name}"
    vz.import_zarr(repo, source, path=f"format{number}", message=message, progress=show)

# The same data again at another path: nothing is stored twice.
before = repo.stats().stored_bytes
vz.import_zarr(repo, folder / "v3.zarr", path="copy")
grown = repo.stats().stored_bytes - before
print(f"a copy of {repo.checkout().path('copy').cid[:16]} took {grown:,} bytes")

# Export the same files.
snapshot = repo.checkout("main").path("format3")
snapshot.to_folder(str(folder / "out.zarr"))
for path in (folder / "v3.zarr").rglob("*"):
    if path.is_file():
        exported = folder / "out.zarr" / path.relative_to(folder / "v3.zarr")
        assert exported.read_bytes() == path.read_bytes()
print("exported, byte for byte the same")
