"""The commands that exchange versions: what they do, print, and leave with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.cli.app import run


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vz.Repository:
    """A repository in the folder that we are in."""
    monkeypatch.delenv("VERSIONED_ZARR_REPO", raising=False)
    repository = vz.create(tmp_path / "ours.vz")
    session = repository.session("main")
    session.mapping["x/0"] = b"1"
    session.commit("first")
    repository.tags.create("v1")
    monkeypatch.chdir(tmp_path / "ours.vz")
    return repository


@pytest.fixture
def theirs(ours: vz.Repository, tmp_path: Path) -> vz.Repository:
    run(["clone", str(tmp_path / "ours.vz"), str(tmp_path / "theirs.vz")])
    return vz.open(tmp_path / "theirs.vz")


def change(repository: vz.Repository, value: bytes) -> vz.Commit:
    session = repository.session("main")
    session.mapping["x/0"] = value
    return session.commit("changed")


def test_clone_says_where(
    ours: vz.Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "copy.vz"
    run(["clone", ours.url, str(place), "-r", "main", "--json"])
    head = ours.branches["main"].cid
    said = json.loads(capsys.readouterr().out)
    assert said == {"url": place.as_uri(), "branches": {"main": head}, "tags": {}}
    assert vz.open(place).checkout() == ours.checkout()


def test_push_pull_and_fetch_go_to_remotes(
    ours: vz.Repository, theirs: vz.Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["remote", "add", "theirs", theirs.url])
    new = change(ours, b"2")
    capsys.readouterr()
    run(["push", "theirs", "main", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert [move["new"] for move in said["moves"]] == [new.cid]
    assert said["values"] == 1
    newer = change(theirs, b"3")
    run(["fetch", "theirs"])
    assert f"remote branch theirs/main is at {newer.cid}" in capsys.readouterr().out
    run(["pull", "theirs"])
    assert f"branch main is at {newer.cid} (was {new.cid})" in capsys.readouterr().out
    assert ours.branches["main"] == newer


def test_conflicts_leave_with_3(
    ours: vz.Repository, theirs: vz.Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    change(ours, b"2")
    newer = change(theirs, b"3")
    for arguments in (["push", theirs.url], ["pull", theirs.url]):
        with pytest.raises(SystemExit) as left:
            run(arguments)
        assert left.value.code == 3
    capsys.readouterr()
    run(["fetch", theirs.url])
    run(["push", theirs.url, "main", "--lease", newer.cid])
    assert theirs.branches["main"] == ours.branches["main"]


def test_remotes_are_listed_and_deleted(
    ours: vz.Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["remote", "add", "node", "memory://node"])
    run(["remote", "list"])
    assert capsys.readouterr().out == "node  memory://node\n"
    run(["remote", "delete", "node"])
    run(["remote", "list", "--json"])
    assert json.loads(capsys.readouterr().out) == {}


def test_a_bundle_goes_out_and_comes_in(
    ours: vz.Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "bundle.car")
    run(["bundle", "export", "main", file, "--history"])
    head = ours.branches["main"].cid
    assert capsys.readouterr().out == f"{head} written to {file}\n"
    vz.create(tmp_path / "new.vz")
    run(["-C", str(tmp_path / "new.vz"), "bundle", "import", file, "-b", "copy"])
    assert capsys.readouterr().out == f"{head}\n"
    assert vz.open(tmp_path / "new.vz").branches["copy"] == ours.branches["main"]
    Path(file).write_bytes(Path(file).read_bytes()[:-1])
    with pytest.raises(SystemExit) as left:
        run(["bundle", "import", file])
    assert left.value.code == 1
    assert "at byte" in capsys.readouterr().err
