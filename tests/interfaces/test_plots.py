"""Plots of what changed: a map, a histogram and a chunk map, with the names of the dimensions."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.cli.running import vz_
from versioned_zarr.interfaces.display import plots

pytest.importorskip("matplotlib")


@pytest.fixture
def repository(tmp_path: Path) -> vz.Repository:
    return vz.create(tmp_path / "r.vz")


def write(repository: vz.Repository, message: str, **arrays: Any) -> None:
    with repository.session(message=message) as session:
        root = zarr.open_group(session, mode="a")
        for name, data in arrays.items():
            names = ("time", "lat", "lon")[-data.ndim :] if data.ndim else ()
            array = root.require_array(
                name, shape=data.shape, dtype=data.dtype, chunks=(2,) * data.ndim,
                dimension_names=names,
            )  # fmt: skip
            array[...] = data


def field() -> Any:
    return np.zeros((4, 6, 8), "f4")


def texts(figure: Any) -> list[str]:
    return [
        text
        for axes in figure.axes
        for text in (axes.get_title(), axes.get_xlabel(), axes.get_ylabel())
        if text
    ]


def test_the_map_has_the_largest_change_along_the_other_dimensions(
    repository: vz.Repository,
) -> None:
    write(repository, "old", air=field())
    data = field()
    data[1, 2, 3], data[3, 2, 3], data[0, 5, 7] = 2, -5, np.nan
    write(repository, "new", air=data)
    found = plots._Differences(repository.diff("main")["air"])
    want = np.zeros((6, 8))
    want[2, 3] = -5
    assert np.array_equal(found.map, want)
    figure = repository.diff("main")["air"].plot()
    said = texts(figure)
    assert said.count("lat") == said.count("lon") == 2
    assert {"air: largest change", "3 values changed", "3 changed chunks"} <= set(said)
    assert figure._repr_png_()[:4] == b"\x89PNG"


def test_large_maps_are_drawn_with_the_largest_change_of_each_pixel(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "_MAX_PIXELS", 3)
    write(repository, "old", air=field())
    data = field()
    data[0, 2, 3], data[0, 3, 4], data[0, 5, 7] = 2, -7, 1
    write(repository, "new", air=data)
    found = plots._Differences(repository.diff("main")["air"])
    want = np.zeros((3, 3))
    want[1, 1], want[2, 2] = -7, 1
    assert np.array_equal(found.map, want)


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (np.zeros(5), np.arange(5.0)),
        (np.zeros(()), np.ones(())),
        (np.zeros((3, 3), bool), np.ones((3, 3), bool)),
        (np.zeros((3, 3), "c16"), np.ones((3, 3), "c16")),
        (np.zeros((3, 3), "S3"), np.full((3, 3), b"abc")),
        (np.zeros((3, 0)), None),
        (np.full((3, 3), np.nan), np.full((3, 3), np.inf)),
        (None, np.zeros((3, 3)) + 1),
        (np.zeros((3, 3)) + 1, None),
        (np.zeros((2, 3, 2, 4)), np.ones((2, 3, 2, 4))),
        (np.zeros(3), np.full(3, 5e-324)),
        (np.full((3, 3), -1.7e308), np.full((3, 3), 1.7e308)),
        (np.zeros(3), np.full(3, np.nan)),
    ],
)
def test_arrays_of_every_kind_are_plotted(old: Any, new: Any) -> None:
    repository = vz.create(f"memory://plots-{uuid.uuid4()}")
    for data in (old, new):
        with repository.session(message="next") as session:
            session.clear("air")
            zarr.open_group(session, mode="a").attrs["n"] = repr(data)
            if data is not None:
                zarr.create_array(session, name="air", data=data)
    figure = repository.diff("main")["air"].plot()
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (1.0, np.nan),
        (np.nan, 1.0),
        (np.inf, 1.0),
        (np.int64(2**62), np.int64(2**62 + 1)),
        (np.uint64(0), np.uint64(2**64 - 1)),
        (np.datetime64("NaT", "s"), np.datetime64(0, "s")),
    ],
)
@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("shape", [(4,), (4, 4)])
def test_values_that_changed_are_counted_and_have_a_place(
    old: Any, new: Any, shape: tuple[int, ...]
) -> None:
    repository = vz.create(f"memory://plots-{uuid.uuid4()}")
    data = np.full(shape, old)
    with repository.session(message="old") as session:
        zarr.create_array(session, name="air", data=data)
    with repository.session(message="new") as session:
        zarr.open_array(session, path="air", mode="r+")[0] = new
    difference = repository.diff("main")["air"]
    changed = data[:1].size
    assert difference.values().changed == changed
    assert difference.values().largest != 0
    assert f"{changed} values changed" in texts(difference.plot())
    found = plots._Differences(difference)
    assert np.count_nonzero((found.map != 0) | found._unmeasured) == changed


def test_what_is_plotted_of_a_huge_array_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(tmp_path / "huge.vz")
    with repository.session(message="old") as session:
        shape = (1_000_000, 1_000_000)
        array = zarr.create_array(session, name="air", shape=shape, chunks=(10, 10), dtype="f4")
    with repository.session(message="new") as session:
        array = zarr.open_array(session, path="air", mode="r+")
        array[:15, :5] = array[-1, -1] = 1
    monkeypatch.setattr(plots, "_MAX_PIXELS", 40)
    figure = repository.diff("main")["air"].plot()
    images = [image.get_array() for axes in figure.axes for image in axes.images]
    assert [image.shape for image in images] == [(40, 40)] * 2
    assert images[1].sum() == 3
    assert np.argwhere(images[1] > 0).tolist() == [[0, 0], [39, 39]]
    with pytest.raises(vz.InvalidInputError, match="10,000,000,000 chunks"):
        repository.blame("air")


def test_a_sample_is_evenly_drawn_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_MAX_SAMPLES", 100)
    sample = plots._Sample()
    sizes = [7, 0, 90, 3, 1, 500, 1000, 33]
    for part in np.split(np.arange(float(sum(sizes))), np.cumsum(sizes)[:-1]):
        sample.add(part)
    assert np.array_equal(sample.values(), np.arange(0, sum(sizes), sample.step))
    assert 50 <= len(sample.values()) <= 100


@pytest.mark.parametrize("shape", [(3, 3), (3, 0), ()])
def test_blame_of_an_array_without_chunks_is_drawn(
    repository: vz.Repository, shape: tuple[int, ...]
) -> None:
    with repository.session(message="empty") as session:
        zarr.create_array(session, name="air", shape=shape, dtype="f4")
    figure = repository.blame("air").plot()
    assert texts(figure) == ["air: no chunks"]
    figure.savefig(io.BytesIO(), format="png")


def test_blame_of_many_chunks_is_drawn_with_the_newest_of_each_pixel() -> None:
    grid = np.arange(2500)[None].repeat(2, axis=0)
    assert plots._fewer(grid).tolist() == [list(range(0, 2500, 3))] * 2


def test_blame_is_drawn_with_the_commits(repository: vz.Repository) -> None:
    for number in range(12):
        data = field()
        data[:, :, : 1 + number % 8] = number + 1
        write(repository, f"commit {number}", air=data)
    figure = repository.blame("air").plot()
    labels = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert "commit 11" in labels[0]
    figure.savefig(io.BytesIO(), format="png")


def test_the_shell_draws_into_files(
    repository: vz.Repository, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(repository, "old", air=field(), sea=field())
    write(repository, "new", air=field() + 1, sea=field() + 2)
    here = ("-C", repository.url)
    vz_(capfd, *here, "diff", "main~1", "--plot", str(tmp_path / "d.png"))
    assert (tmp_path / "d.png").read_bytes()[:4] == b"\x89PNG"
    vz_(capfd, *here, "blame", "air", "--plot", str(tmp_path / "b.svg"))
    assert b"<svg" in (tmp_path / "b.svg").read_bytes()
    assert "cannot draw" in vz_(capfd, *here, "blame", "air", "--plot", "b.xyz", code=2)
    assert "0 arrays cannot be plotted" in vz_(
        capfd, *here, "diff", "main..main", "--plot", "d.png", code=1
    )
