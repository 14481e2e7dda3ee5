"""Write an array on a branch, change it, compare, go back, and name it by its hash."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import zarr

import versioned_zarr as vz


def main() -> None:
    place = Path(tempfile.mkdtemp()) / "quickstart.vz"
    repository = vz.create(place)

    with repository.session("main", message="Temperatures of a day") as session:
        group = zarr.create_group(session.store)
        array = group.create_array("temperature", shape=(24, 100), chunks=(6, 100), dtype="f4")
        array[:] = np.linspace(270, 290, 2400, dtype="f4").reshape(24, 100)
        array.attrs["units"] = "K"

    with repository.session("main", message="Correct the last hour") as session:
        array = zarr.open_group(session.store)["temperature"]
        array[23] += 0.5

    print(*repository.log("main"), sep="\n\n")
    print()
    print("What the last commit changed:")
    print(repository.diff("main"))

    before = repository.checkout("main~1")
    after = repository.checkout("main")
    assert after.open("temperature")[23, 0] - before.open("temperature")[23, 0] == 0.5
    print()
    print(f"before: {before.cid}")
    print(f"after:  {after.cid}")

    again = repository.checkout(before.cid)
    assert np.array_equal(again.open("temperature")[:], before.open("temperature")[:])


if __name__ == "__main__":
    main()
