"""A microscopy story with ome-zarr-py: labels of two annotators are merged and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz

pytest.importorskip("ome_zarr", reason="ome-zarr is installed in the environment of engines")

from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.io import ZarrLocation
from ome_zarr.reader import Reader
from ome_zarr.writer import write_image, write_labels

PIXELS = np.random.default_rng(0).integers(0, 255, (2, 64, 64), dtype="u1")
CHANNELS = [{"label": "DAPI", "color": "0000FF"}, {"label": "GFP", "color": "00FF00"}]


@pytest.fixture(params=[FormatV04, FormatV05], ids=["0.4", "0.5"])
def version(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture
def repository(tmp_path: Path, version: Any) -> vz.Repository:
    repository = vz.create(tmp_path / "cells.vz")
    with repository.session(message="image") as session:
        root = zarr.open_group(session, mode="w", zarr_format=version.zarr_format)
        write_image(PIXELS, root, axes="cyx", fmt=version, name="embryo")
        change_metadata(session, version, lambda it: it.update(omero={"channels": CHANNELS}))
    repository.branches.create("ben")
    return repository


def change_metadata(session: vz.Session, version: Any, change: Any) -> None:
    """Change the image's metadata, which 0.5 keeps in one attribute."""
    root = zarr.open_group(session, mode="r+")
    if version.zarr_format == 2:
        found = dict(root.attrs)
        change(found)
        root.attrs.put(found)
    else:
        found = dict(root.attrs["ome"])
        change(found)
        root.attrs["ome"] = found


def metadata(repository: vz.Repository, path: str = "") -> dict[str, Any]:
    attributes = dict(
        repository.checkout()[path].attrs if path else repository.checkout().open().attrs
    )
    return attributes.get("ome", attributes)


def annotate(repository: vz.Repository, branch: str, name: str, labels: Any, version: Any) -> None:
    with repository.session(branch, message=f"{name} on {branch}") as session:
        root = zarr.open_group(session, mode="r+")
        write_labels(labels, root, name=name, axes="yx", fmt=version)


def test_labels_of_two_annotators_are_merged_and_read(
    repository: vz.Repository, version: Any
) -> None:
    cells, nuclei = np.zeros((2, 64, 64), "i4")
    cells[:32], nuclei[32:] = 1, 2
    annotate(repository, "main", "cells", cells, version)
    annotate(repository, "ben", "nuclei", nuclei, version)
    repository.merge("ben", into="main")
    assert metadata(repository, "labels")["labels"] == ["cells", "nuclei"]
    nodes = list(Reader(ZarrLocation(repository.checkout().store))())
    assert {node.metadata.get("name") for node in nodes} >= {"embryo", "cells", "nuclei"}
    assert np.array_equal(np.asarray(nodes[0].data[0]), PIXELS)
    found = {node.metadata.get("name"): node for node in nodes}
    assert np.array_equal(np.asarray(found["nuclei"].data[0]), nuclei)


def test_edits_of_different_channels_and_names_are_merged(
    repository: vz.Repository, version: Any
) -> None:
    with repository.session(message="colour") as session:
        change_metadata(
            session, version, lambda it: it["omero"]["channels"][0].update(color="FFFFFF")
        )
    with repository.session("ben", message="name") as session:
        change_metadata(session, version, lambda it: it["multiscales"][0].update(name="fish"))
    repository.merge("ben", into="main")
    found = metadata(repository)
    assert [channel["color"] for channel in found["omero"]["channels"]] == ["FFFFFF", "00FF00"]
    assert found["multiscales"][0]["name"] == "fish"


def test_edits_of_one_label_image_conflict_by_chunk(
    repository: vz.Repository, version: Any
) -> None:
    annotate(repository, "main", "cells", np.ones((64, 64), "i4"), version)
    repository.branches.move("ben", to="main")
    for branch, value in (("main", 2), ("ben", 3)):
        with repository.session(branch, message=f"paint {value}") as session:
            zarr.open_array(session, path="labels/cells/s0", mode="r+")[:8, :8] = value
    with pytest.raises(vz.ConflictError, match=r"labels/cells/s0") as caught:
        repository.merge("ben", into="main")
    assert len(caught.value.conflicts) == 1
    repository.merge("ben", into="main", resolve="theirs")
    assert repository.checkout()["labels/cells/s0"][0, 0] == 3


def test_an_image_is_moved_with_its_labels(repository: vz.Repository, version: Any) -> None:
    annotate(repository, "main", "cells", np.ones((64, 64), "i4"), version)
    with repository.session(message="a plate") as session:
        session.copy("labels/cells", "labels/first_guess")
    copied = repository.checkout().path("labels/first_guess")
    (node,) = Reader(ZarrLocation(copied.store))()
    assert np.array_equal(np.asarray(node.data[0]), np.ones((64, 64), "i4"))
