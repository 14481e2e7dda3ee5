"""Commands that show facts: status, reflog, tree, config; with colours on a terminal only."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

import versioned_zarr as vz

pytest.importorskip("click")
from tests.cli.running import vz_

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vz.Repository:
    """A repository in the folder that we are in, with arrays of several kinds."""
    monkeypatch.delenv("VERSIONED_ZARR_REPO", raising=False)
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VERSIONED_ZARR_AUTHOR", "Ada")
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="begin") as session:
        air = zarr.create_group(session).create_group("air")
        plain = air.create_array("t", shape=(5, 4), chunks=(2, 4), dtype="i4", compressors=None)
        plain[:4] = np.ones((4, 4))
        sharded = air.create_array("s", shape=(8,), chunks=(2,), shards=(4,), dtype="f8")
        sharded[:4] = 1
        air.create_array("point", shape=(), dtype="f4")
    monkeypatch.chdir(tmp_path / "r.vz")
    return repository


# tree


def test_tree_shows_arrays_with_what_is_stored(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    snapshot = repository.checkout()
    sizes = {
        path: sum(size for _, size in snapshot.sizes(path))
        for path in ("", "air", "air/t", "air/s", "air/point")
    }
    lines = [" ".join(line.split()) for line in vz_(capfd, "tree").splitlines()]
    assert [line.replace("\N{MULTIPLICATION SIGN}", "x") for line in lines] == [
        f"/ {sizes['']:,} bytes",
        f"air/ {sizes['air']:,} bytes",
        f"point float32 chunks 0 of 1 chunk {sizes['air/point']:,} bytes",
        f"s 8 float64 chunks 2, shards 4 1 of 2 shards {sizes['air/s']:,} bytes",
        f"t 5 x 4 int32 chunks 2 x 4 2 of 3 chunks {sizes['air/t']:,} bytes",
    ]


@pytest.mark.parametrize("path", ["air", "air/t", "zarr.json"])
def test_a_path_in_place_of_a_version_is_recognized(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str], path: str
) -> None:
    for command in ("ls", "tree"):
        said = vz_(capfd, command, path, code=1)
        assert said.strip() == (
            f"vz: no version {path!r}; it is a path on 'main': name the version first, as in "
            f"'main {path}'"
        )
    assert "not found in" in vz_(capfd, "ls", "sea", code=1)


def test_tree_as_json(repository: vz.Repository, capfd: pytest.CaptureFixture[str]) -> None:
    found = {each["path"]: each for each in json.loads(vz_(capfd, "tree", "--json"))}
    assert list(found) == ["", "air", "air/point", "air/s", "air/t"]
    assert found["air/s"] | {"size_bytes": 0} == {
        "path": "air/s", "type": "array", "zarr_format": 3, "size_bytes": 0, "shape": [8],
        "dtype": "float64", "chunks": [2], "shards": [4], "stored_chunks": 1, "grid_chunks": 2,
    }  # fmt: skip
    assert found["air"]["type"] == "group"
    below = json.loads(vz_(capfd, "tree", "main", "air/t", "--json"))
    assert [each["path"] for each in below] == ["air/t"]
    assert below[0] == found["air/t"]


def test_tree_of_no_nodes(repository: vz.Repository, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no groups or arrays" in vz_(capfd, "tree", "main~1")
    assert json.loads(vz_(capfd, "tree", "main~1", "--json")) == []
    assert "nothing at 'nope'" in vz_(capfd, "tree", "main", "nope", code=1)
    assert "read it with 'vz cat'" in vz_(capfd, "tree", "main", "zarr.json", code=1)


# reflog


def test_reflog_lists_moves_by_the_names_they_have(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    repository.branches.create("dev", at="main~1")
    repository.branches.move("dev", "main")
    found = json.loads(vz_(capfd, "reflog", "dev", "--json"))
    assert [each["why"] for each in found] == [
        "branch: moved to main", "branch: created at main~1"
    ]  # fmt: skip
    for each in found:
        commit = repository.checkout(each["ref"]).commit
        assert commit is not None
        assert commit.cid == each["cid"]
    out = vz_(capfd, "reflog", "dev", "-n", "1")
    assert out.startswith(f"dev@{{0}}  {found[0]['cid']}  20")
    assert out.endswith(" UTC  branch: moved to main\n")
    repository.branches.delete("dev")
    assert "  deleted  " in vz_(capfd, "reflog", "dev")
    assert json.loads(vz_(capfd, "reflog", "dev", "--json"))[0]["cid"] is None
    assert "'nope' not found" in vz_(capfd, "reflog", "nope", code=1)


# config


def test_config_shows_what_applies(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = json.loads(vz_(capfd, "config", "--json"))
    assert found == {
        "version": vz.__version__,
        "author": "Ada",
        "state_folder": str(tmp_path / "home"),
        "url": repository.url,
        "kind": "folder",
        "hash": "sha2-256",
    }
    assert "state folder" in vz_(capfd, "config")
    vz.create(tmp_path / "shared.vz", shared=True)
    shared = json.loads(vz_(capfd, "-C", str(tmp_path / "shared.vz"), "config", "--json"))
    assert shared["kind"] == "shared folder"


def test_config_works_outside_a_repository(
    repository: vz.Repository,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(vz_(capfd, "config", "--json"))["url"] is None
    assert "'vz init' creates one" in vz_(capfd, "config")
    assert "no repository" in vz_(capfd, "-C", "nope", "config", code=1)


# status


def test_status_says_what_to_type_next(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "vz commit FOLDER -m MESSAGE" in vz_(capfd, "status")
    session = repository.session()
    zarr.open_array(session, path="air/t")[0, 0] = 9
    out = vz_(capfd, "status")
    assert "  changed array air/t; chunks: 1 changed\n" in out
    assert f"vz sessions {session.id}\n" in out
    assert f"  to commit it once its writers are done: vz commit {session.id} -m M" in out
    session._working.end("died", keep_folder=True)
    out = vz_(capfd, "status")
    assert "  changed array air/t; chunks: 1 changed\n" in out
    assert f"  to commit it: vz commit {session.id} -m MESSAGE\n" in out
    assert f"  to delete it: vz sessions --delete {session.id}\n" in out
    place = str(tmp_path / "r.vz")
    assert f": vz -C {place} commit {session.id} -m M" in vz_(capfd, "-C", place, "status")
    vz_(capfd, "commit", session.id, "-m", "typed")
    assert "nothing uncommitted" in vz_(capfd, "status")


# Colours


def on_terminal(*arguments: str, **more: str) -> str:
    """What `vz` prints on a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **more}
    process = subprocess.Popen(
        [sys.executable, "-m", "versioned_zarr.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env={name: value for name, value in environment.items() if value},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # the end, on Linux
            break
        if not part:
            break
        shown += part
    process.wait()
    os.close(ours)
    return shown.decode()


@pytest.mark.parametrize("command", [["log"], ["diff", "main~1"], ["status"], ["tree"], ["reflog"]])
def test_colours_are_for_terminals(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    plain = vz_(capfd, *command)
    assert "\x1b" not in plain
    coloured = on_terminal(*command, NO_COLOR="")
    assert "\x1b[3" in coloured
    assert "\x1b[3" not in on_terminal(*command, NO_COLOR="1")
