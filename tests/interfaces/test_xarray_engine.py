"""xarray and zarr open repositories, snapshots and sessions as they are given to them."""

from __future__ import annotations

import copy
import pickle
import tomllib
from pathlib import Path

import numpy as np
import pytest
import zarr

import versioned_zarr as vz

xarray = pytest.importorskip("xarray")

from versioned_zarr.interfaces.zarr.xarray_backend import VersionedBackend  # noqa: E402

ENGINES = xarray.backends.list_engines()
OPENED = {"t": ("x", [0.0, 1.0, 2.0])}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("engine") / "climate.vz")
    with vz.create(path).session(message="air") as session:
        data = xarray.Dataset(OPENED)
        data.to_zarr(session, consolidated=False)
        (data + 1).to_zarr(session, group="air/high", consolidated=False)
    repository = vz.open(path)
    repository.tags.create("v1")
    with repository.session(message="more") as session:
        zarr.open_array(session, path="t", mode="r+")[0] = 9
    return path


@pytest.fixture(scope="module")
def snapshot(path: str) -> vz.Snapshot:
    return vz.open(path)["v1"]


def test_the_entry_point_names_the_engine() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    module, name = project["project"]["entry-points"]["xarray.backends"]["versioned_zarr"].split(
        ":"
    )
    assert (module, name) == (VersionedBackend.__module__, VersionedBackend.__name__)


def test_xarray_opens_branch_urls_and_many_versions(path: str) -> None:
    repository = vz.open(path)
    urls = [f"vzarr://{ref}@/::{path}" for ref in ("v1", "main")]
    assert [xarray.open_dataset(url).t.values[0] for url in urls] == [0, 9]
    assert xarray.open_dataset(f"vzarr://v1@/air::{path}", group="high").t.values[0] == 1
    assert len(xarray.open_groups(f"vzarr://v1@/air::{path}")) == 2
    for many in (urls, [repository["v1"], repository["main"]]):
        dataset = xarray.open_mfdataset(many, combine="nested", concat_dim="version")
        assert dataset.t.values[:, 0].tolist() == [0, 9]
    session = repository.session()
    zarr.open_array(session, path="t", mode="r+")[0] = 7
    assert xarray.open_dataset(session.url).t.values[0] == 7
    session.discard()
    with pytest.raises(vz.InvalidInputError, match="leave one of them out"):
        xarray.open_dataset(urls[0], ref="main")
    with pytest.raises(vz.RefNotFoundError):
        xarray.open_dataset(f"vzarr://nope@/::{path}")


def test_xarray_opens_a_repository_by_its_path_alone(path: str) -> None:
    assert "versioned_zarr" in ENGINES
    assert xarray.open_dataset(path).t.values.tolist() == [9, 1, 2]
    assert xarray.open_dataset(path, engine="versioned_zarr", ref="v1").t.values[0] == 0
    assert xarray.open_dataset(Path(path), ref="v1", group="air/high").t.values[0] == 1
    assert xarray.open_datatree(path, ref="v1")["air/high/t"].values[0] == 1
    assert [*xarray.open_groups(path)] == ["/", "/air", "/air/high"]
    options = {"verify": "always", "decode_times": False, "chunks": None, "mode": "r"}
    assert xarray.open_dataset(path, **options, backend_kwargs={"ref": "v1"}).t.values[0] == 0


def test_what_is_open_is_opened(path: str, snapshot: vz.Snapshot) -> None:
    repository = vz.open(path)
    for opened in (snapshot, snapshot.store):
        assert xarray.open_dataset(opened).t.values[0] == 0
        assert xarray.open_zarr(opened, consolidated=False).t.values[0] == 0
        assert xarray.open_datatree(opened)["air/high/t"].values[0] == 1
    assert xarray.open_dataset(repository, ref="v1").t.values[0] == 0
    assert xarray.open_dataset(repository.session()).t.values[0] == 9
    with pytest.raises(vz.InvalidInputError, match="does not accept token, ref"):
        xarray.open_dataset(snapshot, engine="versioned_zarr", ref="main", token="x")
    with pytest.raises(vz.InvalidInputError, match="cannot be 'w'"):
        xarray.open_dataset(path, mode="w")
    with pytest.raises(vz.RefNotFoundError):
        xarray.open_dataset(path, ref="nope")


@pytest.mark.parametrize(
    ("place", "is_ours"),
    [
        ("climate.nc", False),
        ("no-such-folder", False),
        ("s3://bucket/climate.vz", True),
        ("s3://bucket/climate.vz/", True),
        ("s3://bucket/climate.zarr", False),
        ("https://host/climate.nc", False),
        ("lakefs://climate/main/t.nc", False),
        ("ipfs+http://127.0.0.1:5001/climate", True),
        ("ipfs+/ip4/127.0.0.1/tcp/5001/climate", True),
        ("memory://no-such-repository", False),
        ("http://[", False),
        (b"CDF", False),
        (None, False),
    ],
)
def test_what_is_certainly_a_repository_is_recognized(place: object, is_ours: bool) -> None:
    assert VersionedBackend().guess_can_open(place) is is_ours


def test_repositories_are_recognized_where_they_are(path: str) -> None:
    vz.create("memory://recognized")
    for place in (path, f"{path}/", Path(path), Path(path).as_uri(), "memory://recognized"):
        assert VersionedBackend().guess_can_open(place)
    assert not VersionedBackend().guess_can_open(Path(path).parent)


def test_zarr_takes_snapshots_and_sessions_as_stores(path: str, snapshot: vz.Snapshot) -> None:
    assert zarr.open_group(snapshot, mode="r")["t"][0] == 0
    assert zarr.open(snapshot, path="air/high", mode="r").path == "air/high"
    session = vz.open(path).session()
    zarr.create_array(session, name="air/n", shape=2, dtype="i4")[:] = 7
    zarr.save(session, np.arange(3), path="saved")
    assert zarr.open_array(session, path="air/n", mode="r")[1] == 7
    assert zarr.load(session, path="saved").tolist() == [0, 1, 2]
    xarray.Dataset(OPENED).to_zarr(session, mode="a", group="new", consolidated=False)
    xarray.DataTree(xarray.Dataset(OPENED)).to_zarr(session, mode="a", consolidated=False)
    assert xarray.open_zarr(session, group="new", consolidated=False).t.values[2] == 2
    with pytest.raises(ValueError, match=r"read-only|read only"):
        zarr.open_array(snapshot, path="t", mode="r+")[0] = 1


def test_what_passes_as_a_store_is_what_it_was(path: str, snapshot: vz.Snapshot) -> None:
    session = vz.open(path).session()
    assert isinstance(snapshot, vz.Snapshot)
    assert not isinstance(snapshot, (vz.Session, zarr.abc.store.Store, str))
    assert type(pickle.loads(pickle.dumps(snapshot))) is type(copy.copy(snapshot)) is vz.Snapshot
    assert pickle.loads(pickle.dumps(session)) == session
    assert str(snapshot / "air/high").endswith("/air/high")


def test_nodes_are_items_of_a_snapshot(path: str, snapshot: vz.Snapshot) -> None:
    assert snapshot["air/high/t"][0] == 1
    assert snapshot["/air"].path == "air"
    assert snapshot[""]["t"][0] == 0
    assert vz.open(path)["main"]["t"][0] == 9
    with pytest.raises(vz.KeyNotFoundError, match="no group or array at 'air/low'"):
        snapshot["air/low"]
    with pytest.raises(vz.KeyNotFoundError):
        snapshot["t/zarr.json"]
    for opened in (snapshot, vz.open(path)):
        with pytest.raises(TypeError):
            iter(opened)


def test_a_snapshot_becomes_a_datatree(snapshot: vz.Snapshot) -> None:
    assert snapshot.to_datatree()["air/high/t"].values[0] == 1
    assert snapshot.to_datatree("air", decode_times=False)["high/t"].values[0] == 1
    with pytest.raises(vz.ReadOnlyError):
        snapshot.to_datatree(mode="w")


def test_no_flag_is_needed_for_consolidated_metadata(path: str) -> None:
    """Warnings are errors here."""
    session, data = vz.open(path).session(), xarray.Dataset(OPENED)
    for number, options in enumerate(({}, {"consolidated": False}, {"consolidated": True})):
        for store in (session, session.store):
            data.to_zarr(store, group=f"n{number}", mode="w", **options)
            data.to_zarr(store, group=f"n{number}", append_dim="x", **options)
            assert xarray.open_zarr(store, group=f"n{number}", **options).t.shape == (6,)
    for store in (session, session.store):
        assert xarray.open_zarr(store, group="air/high").t.values[0] == 1
    assert b"consolidated_metadata" not in bytes(session.read("zarr.json"))


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_consolidated_metadata_is_written_and_read_on_request() -> None:
    repository = vz.create("memory://consolidated-on-request")
    with repository.session(message="air") as session:
        xarray.Dataset(OPENED).to_zarr(session, group="air")
        store = session.store.with_consolidated_metadata()
        zarr.consolidate_metadata(store)
        assert not session.store.supports_consolidated_metadata
        for same in (
            store,
            store.with_read_only(read_only=True),
            pickle.loads(pickle.dumps(store)),
        ):
            assert same.supports_consolidated_metadata
            assert same != session.store
    snapshot = repository.checkout()
    assert b"consolidated_metadata" in bytes(snapshot.read("zarr.json"))
    assert snapshot.open(use_consolidated=True).metadata.consolidated_metadata is not None
    assert snapshot.open().metadata.consolidated_metadata is None
    assert snapshot.to_xarray("air", consolidated=True).t.shape == (3,)
    assert snapshot.to_datatree(consolidated=True)["air/t"].shape == (3,)
    assert xarray.open_dataset(repository, consolidated=True, group="air").t.shape == (3,)


def test_versions_that_dask_cannot_tell_apart_are_reported(tmp_path: Path) -> None:
    """xarray names Dask arrays after the path that was opened, whatever was read there."""
    pytest.importorskip("dask.array")
    repository, data = vz.create(str(tmp_path / "climate.vz")), xarray.Dataset(OPENED)
    place = str(tmp_path / "climate.vz")
    with repository.session(message="old") as session:
        data.to_zarr(session)
    first = xarray.open_dataset(place, chunks={})
    assert xarray.open_dataset(place, chunks={}).identical(first)
    with repository.session(message="new") as session:
        (data + 1).to_zarr(session, mode="w")
    with pytest.warns(UserWarning, match="open versions as snapshots"):
        xarray.open_dataset(place, chunks={})
    old, new = (xarray.open_dataset(repository[ref], chunks={}) for ref in ("main~1", "main"))
    assert (new - old).t.values.tolist() == [1, 1, 1]
    old = xarray.open_dataset(place, chunks={}, ref="main~1")
    assert (new - old).t.values.tolist() == [1, 1, 1]
