"""A snapshot says how to cite it, and what was opened from it says where it is from."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from versioned_zarr.repository.repository import Repository

ATTRIBUTES: dict[str, Any] = {
    "title": "Sea ice & snow,\n 1979_2026",
    "creator_name": "Ada Lovelace; Émilie du Châtelet",
    "publisher_name": "Ice Institute",
}


def cited(attributes: dict[str, Any] | None, key: str = "zarr.json") -> Any:
    repository = vz.create(f"memory://cite-{uuid.uuid4()}")
    session = repository.session()
    document = attributes if key == ".zattrs" else {"attributes": attributes}
    session.write(key, json.dumps(document).encode() if attributes is not None else b"no JSON")
    session.commit("one", author="Grace Hopper <grace@example.org>")
    return repository.checkout().cite()


@pytest.mark.parametrize("key", ["zarr.json", ".zattrs"])
def test_attributes_name_title_creators_and_publisher(key: str) -> None:
    found = cited(ATTRIBUTES, key)
    assert found.title == "Sea ice & snow, 1979_2026"
    assert found.creators == ("Ada Lovelace", "Émilie du Châtelet")
    year = found.date.year
    assert str(found) == (
        f"Ada Lovelace, Émilie du Châtelet ({year}): Sea ice & snow, 1979_2026 [Data set]. "
        f"Ice Institute. Commit {found.commit}, ipfs://{found.cid}"
    )


def test_it_is_written_for_bibtex_cff_and_datacite() -> None:
    found = cited(ATTRIBUTES)
    assert "  title = {Sea ice \\& snow, 1979\\_2026}," in found.bibtex
    assert "  author = {Ada Lovelace and Émilie du Châtelet}," in found.bibtex
    yaml = pytest.importorskip("yaml")
    cff = yaml.safe_load(found.cff)
    assert cff["title"] == found.title
    assert [author["name"] for author in cff["authors"]] == list(found.creators)
    assert cff["date-released"] == found.date
    assert cff["identifiers"][0]["value"] == f"ipfs://{found.cid}"
    datacite = json.loads(json.dumps(found.datacite))
    assert datacite["creators"] == [{"name": name} for name in found.creators]
    assert datacite["publisher"] == {"name": "Ice Institute"}
    assert datacite["version"] == found.commit
    assert datacite["alternateIdentifiers"][0]["alternateIdentifier"] == f"ipfs://{found.cid}"


@pytest.mark.parametrize("attributes", [None, {}, {"title": 3, "author": []}])
def test_without_attributes_the_author_of_the_commit_is_credited(
    attributes: dict[str, Any] | None,
) -> None:
    found = cited(attributes)
    assert found.creators == ("Grace Hopper",)
    assert found.title.startswith("cite-")
    assert "publisher" not in found.bibtex


def test_a_bare_tree_has_no_commit_and_no_author() -> None:
    repository = vz.create("memory://bare-tree")
    with repository.session(message="one") as session:
        session.write("a", b"1")
    found = repository.checkout(repository.checkout().cid).cite()
    assert (found.commit, found.creators) == (None, ())
    assert "Commit" not in str(found)
    assert str(found).startswith(f"bare-tree ({found.date.year}) [Data set]. ipfs://")
    assert found.datacite["creators"] == [{"name": "(:unkn)"}]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    xr = pytest.importorskip("xarray")
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="one") as session:
        xr.Dataset({"t": ("x", [1.0, 2.0])}).to_zarr(session.store)
    return repository


def test_what_xarray_opens_says_where_it_is_from(repository: Repository, tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    snapshot = repository.checkout()
    assert snapshot.commit is not None
    origin = {
        "cid": snapshot.cid,
        "commit": snapshot.commit.cid,
        "repository": repository.url,
    }
    opened = [
        xr.open_dataset(snapshot),
        snapshot.to_xarray(),
        snapshot.to_datatree(),
        xr.open_dataset(tmp_path / "r.vz", ref="main~0", chunks=None),
        xr.open_datatree(tmp_path / "r.vz", engine="versioned_zarr"),
    ]
    for each in opened:
        assert {name: each.encoding.get(name) for name in origin} == origin
        assert not each.attrs
    assert opened[3].encoding["ref"] == "main~0"
    with repository.session("main", message="again", on_nothing="skip") as session:
        opened[0].to_zarr(session.store, mode="w")
    assert repository.checkout().cid == snapshot.cid
