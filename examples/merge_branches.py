"""Two branches change one array: what goes together is merged, what does not is named."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import zarr

import versioned_zarr as vz


def main() -> None:
    repository = vz.create(Path(tempfile.mkdtemp()) / "merge.vz")
    with repository.session(message="Zeros") as session:
        group = zarr.create_group(session.store)
        group.create_array("a", shape=(4, 4), chunks=(2, 2), dtype="i4")[:] = 1
    repository.branches.create("dev")

    with repository.session("main", message="The upper left chunk, and a unit") as session:
        array = zarr.open_group(session.store)["a"]
        array[:2, :2] = 2
        array.attrs["units"] = "K"
    with repository.session("dev", message="The lower right chunk, and a name") as session:
        array = zarr.open_group(session.store)["a"]
        array[2:, 2:] = 3
        array.attrs["long_name"] = "an example"

    repository.merge("dev", into="main")
    merged = repository.checkout("main").open("a")
    assert merged[0, 0] == 2
    assert merged[3, 3] == 3
    assert dict(merged.attrs) == {"units": "K", "long_name": "an example"}

    for branch, value in (("main", 10), ("dev", 20)):
        with repository.session(branch, message=f"All {value}") as session:
            zarr.open_group(session.store)["a"][:2, :2] = value
    try:
        repository.merge("dev", into="main")
    except vz.ConflictError as error:
        print(error)
    repository.merge("dev", into="main", resolve={"a/*": "theirs"})
    assert np.all(repository.checkout("main").open("a")[:2, :2] == 20)
    print(repository.log("main"))


if __name__ == "__main__":
    main()
