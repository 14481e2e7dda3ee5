"""Commands that change a branch from the shell, one commit each: commit, rm, mv, undo."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import zarr

import versioned_zarr as vz

pytest.importorskip("click")
from tests.cli.running import vz_

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vz.Repository:
    """A repository in the folder that we are in, with two arrays in a group."""
    monkeypatch.delenv("VERSIONED_ZARR_REPO", raising=False)
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="begin") as session:
        root = zarr.create_group(session)
        for name in ("air/t", "air/p"):
            array = root.create_array(name, shape=(4,), chunks=(2,), dtype="i4")
            array[:] = np.arange(4)
        root.create_group("ocean")
    monkeypatch.chdir(tmp_path / "r.vz")
    return repository


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "plain.zarr"
    zarr.create_group(str(folder)).create_array("x", shape=(2,), chunks=(2,), dtype="i4")[:] = 7
    return folder


def messages(repository: vz.Repository, branch: str = "main") -> list[str]:
    return [commit.message for commit in repository.log(branch)]


def left_session(repository: vz.Repository, branch: str = "main") -> str:
    session = repository.session(branch)
    session.write("note", b"text")
    session._working.end("died", keep_folder=True)
    return session.id


# commit


def test_commit_commits_a_session(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    repository.branches.create("dev")
    session = left_session(repository, "dev")
    assert "needs a message" in vz_(capfd, "commit", session, code=2)
    assert "are for folders" in vz_(capfd, "commit", session, "-m", "x", "-b", "main", code=2)
    out = vz_(capfd, "commit", session, "-m", "late")
    assert out == f"{repository.branches['dev'].cid} late\n"
    assert list(repository.sessions) == []
    assert "note" in repository.checkout("dev").mapping


def test_commit_makes_a_branch_equal_to_a_folder(
    repository: vz.Repository, plain: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repository.branches.create("dev")
    made = json.loads(vz_(capfd, "commit", str(plain), "-m", "as it is", "-b", "dev", "--json"))
    assert made["message"] == "as it is"
    assert repository.checkout("dev").cid == vz.cid_of_folder(plain)
    assert messages(repository, "dev")[:2] == ["as it is", "begin"]
    assert messages(repository)[0] == "begin"
    assert "nothing to commit" in vz_(capfd, "commit", str(plain), "-m", "x", "-b", "dev", code=1)
    vz_(capfd, "commit", str(plain), "-m", "below", "-p", "air")
    assert repository.checkout().path("air").cid == vz.cid_of_folder(plain)


def test_commit_of_nothing_names_what_there_is(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "name a session (there are none)" in vz_(capfd, "commit", "-m", "x", code=2)
    session = left_session(repository)
    assert f"name a session ({session})" in vz_(capfd, "commit", "-m", "x", code=2)
    assert "no session or folder 'nope'" in vz_(capfd, "commit", "nope", "-m", "x", code=2)


# rm


def test_rm_removes_nodes_and_keys_in_one_commit(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    vz_(capfd, "rm", "air/t", "/ocean/", "air/p/c/0", "-m", "less")
    assert messages(repository)[:2] == ["less", "begin"]
    assert list(repository.checkout().keys()) == [
        "air/p/c/1", "air/p/zarr.json", "air/zarr.json", "zarr.json"
    ]  # fmt: skip
    assert "air/t/zarr.json" in repository.checkout("main~1").mapping
    vz_(capfd, "rm", "air")
    assert messages(repository)[0] == "Remove air"
    assert list(repository.sessions) == []


def test_cp_copies_and_restore_takes_back(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    before = dict(repository.checkout().mapping)
    assert "Copy air/t to ocean" in vz_(capfd, "cp", "air/t", "ocean")
    assert repository.checkout().mapping["ocean/t/zarr.json"] == before["air/t/zarr.json"]
    vz_(capfd, "rm", "air")
    assert "Restore air from main~2" in vz_(capfd, "restore", "air", "main~2")
    assert repository.checkout().path("air") == repository.checkout("main~3").path("air")
    vz_(capfd, "restore", "/", "main~3", "-m", "all as it was")
    assert dict(repository.checkout().mapping) == before
    assert messages(repository)[0] == "all as it was"
    assert "nothing at 'nope' in 'main'" in vz_(capfd, "restore", "nope", "main", code=1)
    assert "nothing at 'nope'" in vz_(capfd, "cp", "nope", "x", code=1)
    assert "'nowhere' not found" in vz_(capfd, "restore", "air", "nowhere", code=1)
    assert list(repository.sessions) == []


def test_rm_refuses_all_if_one_is_not_there(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "nothing at 'nope'" in vz_(capfd, "rm", "air", "nope", code=1)
    assert "the root can be neither" in vz_(capfd, "rm", "/", code=1)
    vz_(capfd, "rm", code=2)
    assert "'no' not found" in vz_(capfd, "rm", "air", "-b", "no", code=1)
    assert messages(repository)[0] == "begin"
    assert list(repository.sessions) == []


def consolidated(tmp_path: Path, zarr_format: Literal[2, 3]) -> vz.Repository:
    """A repository with an import of consolidated Zarr, at $VERSIONED_ZARR_REPO."""
    folder = str(tmp_path / "old.zarr")
    root = zarr.create_group(folder, zarr_format=zarr_format)
    for name in ("air/t", "air/p", "ocean/s"):
        root.create_array(name, shape=(2,), chunks=(2,), dtype="i4")[:] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(folder, zarr_format=zarr_format)
    repository = vz.create(tmp_path / "consolidated.vz")
    vz.import_zarr(repository, folder)
    return repository


def listed(repository: vz.Repository) -> set[str]:
    """The nodes in the consolidated metadata of the root."""
    document = json.loads(bytes(repository.checkout().read("zarr.json")))
    return set(document["consolidated_metadata"]["metadata"])


def test_consolidated_metadata_follows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    repository = consolidated(tmp_path, 3)
    here = ("-C", repository.url)
    assert listed(repository) == {"air", "air/p", "air/t", "ocean", "ocean/s"}
    vz_(capfd, *here, "rm", "air/t")
    assert listed(repository) == {"air", "air/p", "ocean", "ocean/s"}
    vz_(capfd, *here, "mv", "air", "wind")
    assert listed(repository) == {"wind", "wind/p", "ocean", "ocean/s"}
    vz_(capfd, *here, "mv", "ocean", "wind")
    assert listed(repository) == {"wind", "wind/p", "wind/ocean", "wind/ocean/s"}
    document = json.loads(bytes(repository.checkout().read("zarr.json")))
    own = json.loads(bytes(repository.checkout().read("wind/ocean/s/zarr.json")))
    assert document["consolidated_metadata"]["metadata"]["wind/ocean/s"] == own
    folder = tmp_path / "out.zarr"
    repository.checkout().to_folder(str(folder))
    found = zarr.open_group(str(folder), mode="r", use_consolidated=True)
    assert sorted(name for name, _ in found.members(max_depth=None)) == sorted(listed(repository))


def test_consolidated_metadata_of_format_2_follows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repository = consolidated(tmp_path, 2)
    vz_(capfd, "-C", repository.url, "rm", "air/t")
    vz_(capfd, "-C", repository.url, "mv", "ocean/s", "air")
    document = json.loads(bytes(repository.checkout().read(".zmetadata")))
    arrays = {key for key in document["metadata"] if key.endswith(".zarray")}
    assert arrays == {"air/p/.zarray", "air/s/.zarray"}
    assert document["metadata"]["air/s/.zarray"]["shape"] == [2]


# mv


def test_mv_renames_a_node_in_one_commit(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    before = repository.checkout().path("air").cid
    out = vz_(capfd, "mv", "air", "wind", "-m", "a better name")
    assert out == f"{repository.branches['main'].cid} a better name\n"
    assert messages(repository)[:2] == ["a better name", "begin"]
    assert repository.checkout().path("wind").cid == before
    assert repository.checkout().is_empty("air")
    assert repository.diff("main~1", "main").nodes_moved == [("air", "wind")]


def test_mv_into_a_group_keeps_the_name(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    vz_(capfd, "mv", "air/t", "ocean")
    assert messages(repository)[0] == "Move air/t to ocean"
    assert repository.checkout()["ocean/t"].shape == (4,)
    vz_(capfd, "mv", "ocean/t", "/")
    assert repository.checkout()["t"].shape == (4,)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("air/t", "air/p", "'air/p' exists already"),
        ("air", "air/deep", "which it contains"),
        ("air", "air", "which it contains"),
        ("nope", "x", "nothing at 'nope'"),
        ("/", "x", "the root can be neither"),
        ("air/t", "none/t", "'none' is no group"),
        ("ocean", "air/t/x", "would lie in the array 'air/t'"),
    ],
)
def test_mv_refuses(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str], old: str, new: str, says: str
) -> None:
    assert says in vz_(capfd, "mv", old, new, code=1)
    assert messages(repository)[0] == "begin"
    assert list(repository.sessions) == []


# undo


def test_undo_takes_back_the_last_move(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    first = repository.branches["main"]
    vz_(capfd, "rm", "ocean")
    second = repository.branches["main"]
    out = vz_(capfd, "undo", "--yes")
    assert "undo 'commit: Remove ocean'\n" in out
    assert f"branch main moves from {second.cid} to {first.cid}\n" in out
    assert "added group ocean" in out
    assert out.endswith(f"{first.cid} begin\n")
    assert repository.branches["main"] == first
    assert json.loads(vz_(capfd, "undo", "--yes", "--json"))["cid"] == second.cid
    assert repository.branches["main"] == second


def test_undo_brings_a_deleted_branch_back(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    at = repository.branches.create("dev")
    assert "vz branch -d dev" not in vz_(capfd, "undo", "main", "--yes", "--json")
    assert "has not moved since" in vz_(capfd, "undo", "dev", "--yes", code=1)
    vz_(capfd, "branch", "-d", "dev")
    assert f"branch dev comes back at {at.cid}\n" in vz_(capfd, "undo", "dev", "--yes")
    assert repository.branches["dev"] == at
    assert "vz branch -d dev" in vz_(capfd, "undo", "dev", "--yes", code=1)
    assert "'no' not found" in vz_(capfd, "undo", "no", "--yes", code=1)


def test_undo_asks_who_sits_at_a_terminal(repository: vz.Repository) -> None:
    vz.open(repository.url).branches.create("dev")
    head = repository.branches["main"]
    for answer, moves in ((b"n\n", False), (b"y\n", True)):
        ours, theirs = pty.openpty()
        os.write(ours, answer)
        done = subprocess.run(
            [sys.executable, "-m", "versioned_zarr.cli", "undo"],
            stdin=theirs,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        os.close(ours)
        os.close(theirs)
        assert "undo 'commit: begin'" in done.stdout
        assert "Do it? [y/N]" in done.stderr
        assert (done.returncode == 0) is moves
        assert (repository.branches["main"] != head) is moves


def test_undo_without_a_terminal_needs_a_yes(
    repository: vz.Repository,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = repository.branches["main"]
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert "pass --yes" in vz_(capfd, "undo", code=2)
    assert repository.branches["main"] == head
