"""The flat public face: every name is there, and what it costs to import it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import versioned_zarr as vz


@pytest.mark.parametrize("name", vz.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(vz, name) is not None
    assert name in dir(vz)


def test_the_version_is_the_same_everywhere() -> None:
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    cited = re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert cited is not None
    assert vz.__version__ == project["version"] == cited[1]


REPOSITORY = """
    bisect blame branches checkout cherry_pick diff export_car fetch fsck gc hash import_car log
    merge publish pull push reflog remotes repack resolve resume revert session sessions squash
    stats tags url
"""
SESSION = """
    base branch clear commit copy create_hierarchy delete discard dropped get id is_empty keys
    list_dir mapping message missing move read read_only repository restore size sizes status store
    supports_consolidated_metadata url write write_new
"""
SNAPSHOT = """
    cid cite commit get is_empty keys list_dir mapping missing open path place read read_only
    repository size sizes store supports_consolidated_metadata to_datatree to_folder to_xarray
    to_zip
"""


def test_dir_shows_the_public_names() -> None:
    assert [name for name in dir(vz) if not name.startswith("__")] == sorted(
        {*vz.__all__} - {"__version__"}
    )
    repository = vz.create("memory://dir")
    for shown, names in (
        (repository, REPOSITORY),
        (repository.session(), SESSION),
        (repository.checkout(), SNAPSHOT),
    ):
        assert [name for name in dir(shown) if not name.startswith("_")] == names.split()


def test_a_repository_is_of_one_class() -> None:
    assert isinstance(vz.create("memory://class"), vz.Repository)


def test_what_is_not_public_is_named() -> None:
    with pytest.raises(AttributeError, match="'versioned_zarr' has no attribute 'comit'"):
        vz.comit  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "left_out"),
    [
        ("import versioned_zarr", {"numpy", "zarr", "fsspec"}),
        ("import versioned_zarr as vz; vz.create('memory://x')", {"zarr", "fsspec"}),
        (
            "import versioned_zarr as vz; vz.import_zarr, vz.cid_of_folder, vz.serve",
            {"zarr", "starlette", "uvicorn"},
        ),
    ],
)
def test_what_is_not_needed_is_not_imported(statement: str, left_out: set[str]) -> None:
    code = f"import sys; {statement}; print(sorted({left_out} & {{*sys.modules}}))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout
    assert found == "[]\n"
