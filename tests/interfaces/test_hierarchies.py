"""Hierarchies from templates: what is created is what zarr and xarray would create, or nothing."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz

ARRAY = {"shape": [10, 4], "chunks": [5, 4], "dtype": "float32"}
SHARDED = {"shape": [8], "dtype": "i2", "shards": [8], "chunks": [4]}
SMALL = {"shape": [4], "dtype": "i4"}
GZIP = {"name": "gzip", "configuration": {"level": 1}}
TEMPLATES: list[dict[str, Any]] = [
    {"air/t": ARRAY},
    {"air": {"attributes": {"a": 1}}, "air/t": ARRAY, "air/p": {**ARRAY, "shape": (7, 4)}},
    {"/air/": None, "sea": {}},
    {"t": {**ARRAY, "dimension_names": ["y", "x"], "attributes": {"units": "K"}}},
    {"t": {**ARRAY, "fill_value": 3, "compressors": GZIP}},
    {"t": {"shape": 8, "dtype": "int16"}, "u": SHARDED},
    {"t": {**ARRAY, "chunks": [50, 50]}, "u": {**ARRAY, "chunks": [50, 50], "shape": [60, 60]}},
    {"t": {"shape": [], "dtype": "bool"}},
    {"t": {**ARRAY, "zarr_format": 2}, "g/u": {**ARRAY, "zarr_format": 2, "order": "F"}},
]  # fmt: skip


@pytest.fixture
def session() -> vz.Session:
    return vz.create(f"memory://hierarchy-{uuid.uuid4()}").session()


def documents(session: vz.Session) -> dict[str, Any]:
    return {key: json.loads(bytes(session.read(key))) for key in session.keys()}  # noqa: SIM118


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_comes_to_what_zarr_creates_one_by_one(
    session: vz.Session, template: dict[str, Any]
) -> None:
    root = session.create_hierarchy(template)
    found = documents(session)
    other = vz.create(f"memory://one-by-one-{uuid.uuid4()}").session()
    zarr_format = (next(iter(template.values())) or {}).get("zarr_format", 3)
    one_by_one = zarr.create_group(other, zarr_format=zarr_format)
    for path, spec in template.items():
        if spec and "shape" in spec:
            spec = {"zarr_format": zarr_format, **spec}
            zarr.create_array(other.store, name=path.strip("/"), **spec)
        else:
            one_by_one.require_group(path.strip("/")).update_attributes(
                (spec or {}).get("attributes", {})
            )
    assert found == documents(other)
    assert isinstance(root, zarr.Group)


def test_arrays_are_written_through_what_is_returned(session: vz.Session) -> None:
    root = session.create_hierarchy({"air/t": ARRAY}, "model")
    root["air/t"][:] = 5
    session.commit("data")
    assert np.all(session.repository.checkout()["model/air/t"][:] == 5)
    array = session.create_hierarchy({"": ARRAY}, "only")
    assert isinstance(array, zarr.Array)


@pytest.mark.parametrize(
    "text",
    [
        '{"air": {"attributes": {"a": 1}}, "air/t": {"shape": [4], "dtype": "i4"}}',
        json.dumps({"members": {"air": {"attributes": {"a": 1}, "members": {"t": SMALL}}}}),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_files_of_json_and_yaml_are_read(
    session: vz.Session, tmp_path: Path, text: str, suffix: str
) -> None:
    file = tmp_path / f"template.{suffix}"
    file.write_text(text)
    root = session.create_hierarchy(file)
    assert (root["air"].attrs["a"], root["air/t"].shape) == (1, (4,))


def test_metadata_of_zarr_is_taken_as_it_is(session: vz.Session) -> None:
    other = zarr.create_group(zarr.storage.MemoryStore(), attributes={"a": 1})
    array = other.create_array("t", shape=(4,), dtype="i4")
    document = json.loads(json.dumps(array.metadata.to_dict(), default=str))
    root = session.create_hierarchy({"": other, "t": array, "u": array.metadata, "v": document})
    assert root.attrs["a"] == 1
    assert root["t"].metadata == root["u"].metadata == array.metadata
    assert root["v"].shape == (4,)


def template_of_xarray() -> Any:
    import xarray as xr

    air = xr.DataArray(
        np.arange(24.0).reshape(6, 4), dims=("time", "x"), attrs={"units": "K"}, name="air"
    )
    air.encoding["chunks"] = (2, 4)
    return air.to_dataset().assign_coords(time=np.arange(6), x=[1.5, 2.5, 3.5, 4.5])


def test_a_dataset_is_created_without_the_values_of_its_variables(session: vz.Session) -> None:
    import xarray as xr

    dataset = template_of_xarray()
    session.create_hierarchy(dataset)
    assert not any(key.startswith("air/c") for key in session.keys())  # noqa: SIM118
    assert zarr.open_array(session, path="air").chunks == (2, 4)
    dataset.isel(time=slice(2, 4)).drop_vars("x").to_zarr(session, region="auto")
    found = xr.open_zarr(session)
    assert found["air"].attrs == {"units": "K"}
    assert np.array_equal(found["air"][2:4], dataset["air"][2:4])
    assert np.isnan(found["air"][0]).all()
    assert list(found["x"].values) == [1.5, 2.5, 3.5, 4.5]
    with pytest.raises(vz.AlreadyExistsError, match="'air' exists already"):
        session.create_hierarchy(dataset)
    session.create_hierarchy(dataset, overwrite=True)
    assert not any(key.startswith("air/c") for key in session.keys())  # noqa: SIM118


def test_a_tree_is_created_group_by_group(session: vz.Session) -> None:
    import xarray as xr

    tree = xr.DataTree.from_dict({"/": template_of_xarray(), "/model/a": template_of_xarray()})
    session.create_hierarchy(tree, "runs")
    assert sorted(session.list_dir("runs/model/a")) == ["air", "zarr.json"]  # the root has the rest
    assert sorted(xr.open_datatree(session.store, engine="zarr", group="runs").groups) == [
        "/",
        "/model",
        "/model/a",
    ]


@pytest.mark.parametrize(
    ("template", "error", "says"),
    [
        ({"air": {"shape": [4]}}, vz.InvalidInputError, "metadata of 'air' of the template"),
        ({"air": {"shape": [4], "dtype": "nope"}}, vz.InvalidInputError, "metadata of 'air'"),
        ({"air": {"shape": [4], "dtype": "i4", "colour": 1}}, vz.InvalidInputError, "colour"),
        ({"air": {"dtype": "i4"}}, vz.InvalidInputError, "'air' of the template has no shape"),
        ({"air": 3}, vz.InvalidInputError, "'air' of the template must have a dict"),
        ({1: {}}, vz.InvalidInputError, "must be text, not 1"),
        ({"a//b": {}}, vz.InvalidKeyError, "a//b"),
        ({"t": ARRAY, "t/u": ARRAY}, vz.InvalidInputError, "would lie in the array 't'"),
        ({"t": ARRAY, "/t/": ARRAY}, vz.InvalidInputError, "'t' twice"),
        ({"t": ARRAY, "u": {"zarr_format": 2}}, vz.InvalidInputError, "one zarr_format"),
        ({"old/t": ARRAY}, vz.InvalidInputError, "'old/t' would lie in the array 'old'"),
        ({"old": ARRAY}, vz.AlreadyExistsError, "'old' exists already"),
        ({"old": {"attributes": {}}}, vz.AlreadyExistsError, "'old' exists already"),
        ({"group": ARRAY, "old": ARRAY}, vz.AlreadyExistsError, "and 1 more nodes"),
        ({"group": {"attributes": {"a": 2}}}, vz.AlreadyExistsError, "'group' exists"),
        ({"t": {**ARRAY, "dimension_names": ["x"]}}, vz.InvalidInputError, "1 dimension_names"),
        ({"a": ARRAY, "t": {"attributes": {"x": object()}}}, vz.InvalidInputError, "of 't'"),
        ({"a": ARRAY, "t": {**SMALL, "attributes": {"x": {1}}}}, vz.InvalidInputError, "of 't'"),
        ({"t": {**ARRAY, "zarr_format": 4}}, vz.InvalidInputError, "zarr_format other than 2 or 3"),
        ({"a": ARRAY, "zarr.json": ARRAY}, vz.InvalidKeyError, "name of a document of Zarr"),
        ({"a/.zattrs/b": ARRAY}, vz.InvalidKeyError, "name of a document of Zarr"),
        ("nothing.json", vz.NotFoundError, "no template 'nothing.json'"),
        (4, vz.InvalidInputError, "a template is a dict of paths"),
    ],
)  # fmt: skip
def test_what_cannot_be_created_is_refused_and_nothing_is_created(
    session: vz.Session, template: Any, error: type[Exception], says: str
) -> None:
    session.create_hierarchy({"old": ARRAY, "group": {"attributes": {"a": 1}}, "group/t": ARRAY})
    before = documents(session)
    with pytest.raises(error, match=says):
        session.create_hierarchy(template)
    assert documents(session) == before


@pytest.mark.parametrize(
    ("change", "path", "error"),
    [
        ({"u": ("x", np.array([object()] * 4))}, "", vz.InvalidInputError),
        ({"u": ("x", np.zeros(4), {"a": object()})}, "", vz.InvalidInputError),
        ({3: ("x", np.zeros(4))}, "", vz.InvalidInputError),
        ({"zarr.json": ("x", np.zeros(4))}, "", vz.InvalidKeyError),
        ({"..": ("x", np.zeros(4))}, "", vz.InvalidInputError),
        ({"u": ("x", np.zeros(4), {}, {"chunks": (2, 2)})}, "", vz.InvalidInputError),
        ({}, "t", vz.InvalidInputError),
        ({}, "t/below", vz.InvalidInputError),
    ],
)
def test_a_dataset_that_cannot_be_written_leaves_what_is_there(
    session: vz.Session, change: Any, path: str, error: type[Exception]
) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("dask")
    array = zarr.create_array(session, name="t", data=np.ones(4))
    before = {key: bytes(session.read(key)) for key in session.keys()}  # noqa: SIM118
    dataset = xarray.Dataset({"t": ("x", np.zeros(4)), **change}, {"x": np.arange(4)})
    with pytest.raises(error):
        session.create_hierarchy(dataset, path, overwrite=True)
    assert {key: bytes(session.read(key)) for key in session.keys()} == before  # noqa: SIM118
    assert array[:].tolist() == [1, 1, 1, 1]


def test_members_with_nothing_behind_them_are_none(session: vz.Session) -> None:
    root = session.create_hierarchy({"air": {"members": None}})
    assert list(root["air"].members()) == []


def test_overwriting_replaces_arrays_and_keeps_what_is_in_groups(session: vz.Session) -> None:
    root = session.create_hierarchy(
        {"old": ARRAY, "group": {"attributes": {"a": 1}}, "group/t": ARRAY}
    )
    root["old"][:] = 1
    session.create_hierarchy({"group": {"attributes": {"a": 1}}, "group/new": ARRAY})
    session.create_hierarchy(
        {"old": {**ARRAY, "dtype": "i1"}, "group": {"attributes": {"b": 2}}}, overwrite=True
    )
    assert [key for key in session.keys() if key.startswith("old")] == ["old/zarr.json"]  # noqa: SIM118
    root = zarr.open_group(session)
    assert dict(root["group"].attrs) == {"b": 2}
    assert sorted(root["group"].array_keys()) == ["new", "t"]
    assert root["old"].dtype == "i1"


def test_the_format_is_that_of_the_group_it_is_created_in(session: vz.Session) -> None:
    zarr.create_group(session, zarr_format=2)
    root = session.create_hierarchy({"t": ARRAY}, "deep")
    assert root["t"].metadata.zarr_format == 2


def test_broken_files_are_named(session: vz.Session, tmp_path: Path) -> None:
    for suffix, text in (("json", "{"), ("yaml", "a: [")):
        (tmp_path / f"t.{suffix}").write_text(text)
        with pytest.raises(vz.InvalidInputError, match=rf"t.{suffix}' is not {suffix.upper()}"):
            session.create_hierarchy(str(tmp_path / f"t.{suffix}"))
    (tmp_path / "latin.json").write_bytes(b"\xff")
    with pytest.raises(vz.InvalidInputError, match="cannot read the template"):
        session.create_hierarchy(tmp_path / "latin.json")


def test_a_thousand_arrays_ask_zarr_for_their_metadata_once(
    session: vz.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, create = [], zarr.create_array
    monkeypatch.setattr(
        zarr, "create_array", lambda *it, **spec: made.append(1) or create(*it, **spec)
    )
    template = {
        f"g{n % 10}/a{n}": {**ARRAY, "shape": [5 + n, 4], "attributes": {"n": n}}
        for n in range(1000)
    }
    root = session.create_hierarchy(template)
    assert len(made) == 1
    assert (root["g7/a997"].shape, root["g7/a997"].attrs["n"]) == ((1002, 4), 997)
