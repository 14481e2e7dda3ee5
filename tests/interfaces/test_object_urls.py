"""A repository on an object store through fsspec: by URL, for pandas and xarray, and no secrets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import versioned_zarr as vz
from tests.servers.versity import S3Server
from versioned_zarr.interfaces.fsspec.filesystem import VersionedFileSystem

pytest.importorskip("obstore")
xr = pytest.importorskip("xarray")

from obstore.store import MemoryStore  # noqa: E402

URL = "s3://bucket/climate"
SECRET = "sesame"


def fill(repository: vz.Repository, offset: float = 0.0) -> None:
    data = xr.Dataset({"t": (("x", "y"), np.arange(12.0).reshape(3, 4) + offset)})
    with repository.session(message="data") as session:
        data.to_zarr(session.store, group="air", consolidated=False)
        session.write("table.csv", b"a,b\n1,2\n3,4\n")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    VersionedFileSystem.clear_instance_cache()


@pytest.fixture
def memory() -> dict[str, Any]:
    options = {"store": MemoryStore()}
    fill(vz.create(URL, **options))
    return options


OPTIONS: list[Callable[[S3Server], dict[str, Any]]] = [
    lambda s3: s3.storage_options,
    lambda s3: {"storage_options": s3.storage_options, "cache_bytes": 0},
]


@pytest.mark.compat
@pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")
@pytest.mark.parametrize("options", OPTIONS)
def test_readers_open_a_url_with_options(
    s3: S3Server, options: Callable[[S3Server], dict[str, Any]]
) -> None:
    pandas = pytest.importorskip("pandas")
    url = s3.url()
    fill(vz.create(url, storage_options=s3.storage_options))
    given = {"s3": options(s3)}
    found = xr.open_zarr(f"vzarr://main@/air::{url}", storage_options=given, consolidated=False)
    assert float(found.t.sum()) == 66.0
    table = pandas.read_csv(f"vzarr://main@/table.csv::{url}", storage_options=given)
    assert table.to_dict("list") == {"a": [1, 3], "b": [2, 4]}
    with fsspec.open(f"vzarr://main@/table.csv::{url}", "rb", **given) as file:
        assert file.read(3) == b"a,b"
    files = fsspec.filesystem("vzarr", fo=url, target_options=options(s3))
    assert files.ls("", detail=False) == ["air", "table.csv", "zarr.json"]
    assert fsspec.url_to_fs(files.unstrip_protocol("air"), **given)[1] == "air"
    assert pickle.loads(pickle.dumps(files)).cat_file("table.csv", 0, 3) == b"a,b"


@pytest.mark.compat
@pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")
def test_readers_open_a_url_by_the_environment(s3_by_environment: S3Server) -> None:
    url = s3_by_environment.url()
    fill(vz.create(url))
    found = xr.open_zarr(f"vzarr://main@/air::{url}", consolidated=False)
    assert float(found.t.sum()) == 66.0
    files, path = fsspec.url_to_fs(f"vzarr://main@/air::{url}")
    files.pipe_file(f"{path}/note", b"written")
    files.commit("through fsspec")
    assert vz.open(url).checkout().read("air/note") == b"written"
    again = VersionedFileSystem.from_json(files.to_json())
    assert again.cat_file("air/note") == b"written"


def test_a_store_in_memory_is_read(memory: dict[str, Any]) -> None:
    files = fsspec.filesystem("vzarr", fo=URL, target_options=memory)
    assert files.cat_file("table.csv") == b"a,b\n1,2\n3,4\n"
    assert files.glob("air/**/zarr.json") == ["air/t/zarr.json", "air/zarr.json"]
    files.pipe_file("note", b"written")
    files.commit("through fsspec")
    assert vz.open(URL, **memory).checkout().read("note") == b"written"


def test_two_stores_of_one_name_are_not_confused(memory: dict[str, Any]) -> None:
    other = {"store": MemoryStore()}
    vz.create(URL, **other)
    files = fsspec.filesystem("vzarr", fo=URL, target_options=memory)
    others = fsspec.filesystem("vzarr", fo=URL, target_options=other)
    assert (files.exists("table.csv"), others.exists("table.csv")) == (True, False)
    files.pipe_file("note", b"mine")
    assert not others.exists("note")
    files.commit()
    assert not vz.open(URL, **other).checkout().mapping


@pytest.mark.compat
def test_options_for_the_same_server_share_a_session(s3: S3Server) -> None:
    url, options = s3.url(), s3.storage_options
    fill(vz.create(url, storage_options=options))
    files = fsspec.filesystem("vzarr", fo=url, target_options=options)
    files.pipe_file("note", b"mine")
    given = {"storage_options": {**options, "timeout": "50s"}, "cache_bytes": 0}
    assert fsspec.filesystem("vzarr", fo=url, target_options=given).cat_file("note") == b"mine"
    files.end_session(commit=False)


@pytest.mark.parametrize(
    "options",
    [
        {"access_key_id": SECRET, "secret_access_key": SECRET, "region": "eu"},
        {"storage_options": {"session_token": SECRET, "region": "eu"}},
        {"endpoint": f"http://me:{SECRET}@127.0.0.1:9", "client_options": {"user_agent": SECRET}},
    ],
)
def test_credentials_are_in_no_text(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, memory: dict[str, Any]
) -> None:
    repository = vz.open(URL, **memory)
    monkeypatch.setattr("versioned_zarr.location.open", lambda url, **_: repository)
    files = fsspec.filesystem("vzarr", fo=URL, target_options=options)
    also = VersionedFileSystem(URL, "main", None, options)
    with files.open("table.csv") as file:
        texts = [repr(file), str(file)]
    for each in (files, also):
        texts += [repr(each), str(each), each.to_json(), str(each.to_dict())]
    assert SECRET not in "".join(texts)
    assert json.loads(files.to_json())["fo"] == URL


@pytest.mark.parametrize("bad", [{"timeout": SECRET}, {"storage_options": {"nonsense": SECRET}}])
def test_a_refusal_shows_no_value(bad: dict[str, Any]) -> None:
    with pytest.raises(vz.InvalidInputError, match="with the storage options") as found:
        fsspec.url_to_fs(f"vzarr://main@/::{URL}", s3=bad)
    assert SECRET not in str(found.value)


def test_a_scheme_without_its_package_names_it() -> None:
    if fsspec.get_filesystem_class("s3").__module__.startswith("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(ImportError, match=r"Install s3fs.* vzarr://main@/PATH::s3://"):
        fsspec.filesystem("s3")
