"""Two people change one array: compatible changes are merged, conflicts are reported."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import zarr

import versioned_zarr as vz

repo = vz.create(Path(tempfile.mkdtemp(), "survey.vz"))
with repo.session("main", message="An empty map") as session:
    zarr.create_array(session.store, name="depth", shape=(40, 40), chunks=(10, 10), dtype="f4")

# Anna fills the north and sets the units; Ben fills the south.
repo.branches.create("anna")
repo.branches.create("ben")
with repo.session("anna", message="The north") as session:
    depth = zarr.open_array(session.store, path="depth")
    depth[:20] = 10
    depth.attrs["units"] = "m"
with repo.session("ben", message="The south") as session:
    depth = zarr.open_array(session.store, path="depth")
    depth[20:] = 30
    depth.attrs["instrument"] = "echo sounder"

# Different chunks of one array, different attributes of one node: no conflict.
repo.merge("anna", into="main")
repo.merge("ben", into="main")
depth = repo.checkout("main").open("depth")
assert dict(depth.attrs) == {"units": "m", "instrument": "echo sounder"}
assert np.array_equal(depth[:, 0], [10] * 20 + [30] * 20)
print(repo.log())

# Now both change the same chunk, and the same attribute.
for name, value in (("anna", 11), ("ben", 12)):
    repo.branches.move(name, "main")
    with repo.session(name, message=f"The first row is {value}") as session:
        depth = zarr.open_array(session.store, path="depth")
        depth[0, :10] = value
        depth.attrs["checked_by"] = name
repo.merge("anna", into="main")
try:
    repo.merge("ben", into="main")
except vz.ConflictError as error:
    print("\nconflicts:")
    for conflict in error.conflicts:
        print(f"    {conflict}")


# Resolve conflicts by side, by path, or with a function of each conflict, as here.
def settle(conflict: vz.Conflict) -> str:
    """Take Ben's later measurement, and Anna as the checker."""
    return "ours" if conflict.field else "theirs"


repo.merge("ben", into="main", resolve=settle)
depth = repo.checkout("main").open("depth")
print(f"\nthe first row is {depth[0, 0]:.0f}, checked by {depth.attrs['checked_by']}")
print(repo.log())
