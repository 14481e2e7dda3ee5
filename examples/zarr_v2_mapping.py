"""Sessions and snapshots as mappings: for format 2, for zarr 2, and for values outside Zarr.

`session.mapping` is a MutableMapping from keys to bytes. In zarr 2, this is a store:
`zarr.group(store=session.mapping)`. With zarr 3, `session.store` writes both formats.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import zarr

import versioned_zarr as vz

repo = vz.create(Path(tempfile.mkdtemp(), "old.vz"))
session = repo.session("main")

# Zarr format 2, written with zarr 3.
array = zarr.create_array(
    session.store, name="a", shape=(4, 4), chunks=(2, 2), dtype="i4", zarr_format=2
)
array[:] = np.arange(16).reshape(4, 4)

# Any key that is a valid file path can be used, and is versioned with the rest.
print(sorted(session.mapping))
print(json.loads(session.mapping["a/.zarray"])["chunks"])
session.mapping["a/.zattrs"] = json.dumps({"units": "m"}).encode()
session.mapping["notes/2026-11-23.txt"] = b"Calibrated before the first run.\n"
session.commit("An array in format 2, and a note")

# Reading works in the same way. The mapping of a snapshot is read-only.
mapping = repo.checkout("main").mapping
assert mapping["notes/2026-11-23.txt"].startswith(b"Calibrated")
try:
    mapping["a/0.0"] = b""
except vz.ReadOnlyError as error:
    print(f"refused: {error}")
print(repo.diff("main"))
