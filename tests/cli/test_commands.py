"""Each command does what git's of that name does, and says so in text and in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz

pytest.importorskip("click")
from versioned_zarr.cli.app import run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two branches that went different ways, as $VERSIONED_ZARR_REPO."""
    folder = tmp_path / "r.vz"
    repository = vz.create(folder)
    with repository.session(message="one\n\nmore words") as session:
        session.write("zarr.json", b'{"zarr_format": 3, "node_type": "group", "attributes": {}}')
        session.write("notes/a", b"first")
    repository.branches.create("dev")
    with repository.session("dev", message="on dev") as session:
        session.write("notes/b", b"second")
    with repository.session(message="on main") as session:
        session.write("notes/c", b"third")
    monkeypatch.setenv("VERSIONED_ZARR_REPO", str(folder))
    return folder


def vz_(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run `vz` and give what it printed; for a failure, what it said on stderr."""
    found = 0
    try:
        run(list(arguments))
    except SystemExit as stop:
        found = stop.code if isinstance(stop.code, int) else 1
    out, err = capfd.readouterr()
    assert found == code, err
    return err if code else out


def vz_json(capfd: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(vz_(capfd, *arguments, "--json"))


def test_log_lists_the_newest_first(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    messages = [commit["message"] for commit in vz_json(capfd, "log")]
    assert messages == ["on main", "one\n\nmore words", "Create the repository"]
    assert [c["message"] for c in vz_json(capfd, "log", "dev", "--path", "notes/b")] == ["on dev"]
    assert "more words" in vz_(capfd, "log")
    assert "(main)" in vz_(capfd, "log", "--oneline", "-n", "1")


def test_merge_is_drawn(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    vz_(capfd, "merge", "dev", "-m", "joined")
    drawing = vz_(capfd, "log", "--graph")
    assert drawing.splitlines()[0].startswith("* ")
    assert "|\\" in drawing
    assert "|/" in drawing
    assert vz_json(capfd, "show")["message"] == "joined"


def test_diff_counts_and_answers(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "notes/b" in vz_(capfd, "diff", "main", "dev")
    assert "2 keys differ" in vz_(capfd, "diff", "main", "dev", "--stat")
    assert {k["key"] for k in vz_json(capfd, "diff", "main", "dev")["other_keys"]} == {
        "notes/b",
        "notes/c",
    }
    vz_(capfd, "diff", "main", "dev", "--exit-code", code=1)
    vz_(capfd, "diff", "main", "main", "--exit-code")


def test_branches_and_tags(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    vz_(capfd, "branch", "new", "main~1")
    vz_(capfd, "branch", "new", "-m", "newer")
    vz_(capfd, "tag", "v1", "dev")
    assert set(vz_json(capfd, "branch")) == {"main", "dev", "newer"}
    assert vz_json(capfd, "tag")["v1"]["message"] == "on dev"
    vz_(capfd, "branch", "-d", "newer")
    vz_(capfd, "tag", "-d", "v1")
    assert "newer" not in vz_(capfd, "branch")
    vz_(capfd, "branch", "-f", "dev", "main")
    assert vz.open(place).branches["dev"] == vz.open(place).branches["main"]


def test_history_is_made(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picked = vz_json(capfd, "cherry-pick", "dev")
    assert picked["message"] == "on dev"
    assert vz_json(capfd, "revert", "main")["message"].startswith("Revert")
    squashed = vz_json(capfd, "squash", "main~2", "-m", "all")
    assert vz.open(place).branches["main"].cid == squashed["cid"]


def test_values_are_listed_and_read(place: Path, capfdbinary: Any) -> None:
    run(["ls", "main", "notes"])
    assert capfdbinary.readouterr().out == b"a\nc\n"
    run(["ls", "-r", "--json"])
    names = [item["name"] for item in json.loads(capfdbinary.readouterr().out)]
    assert names == ["notes/a", "notes/c", "zarr.json"]
    run(["cat", "main", "notes/c"])
    assert capfdbinary.readouterr().out == b"third"


def test_conflicts_have_a_code_of_their_own(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for branch, value in (("main", b"1"), ("dev", b"2")):
        with vz.open(place).session(branch, message="both") as session:
            session.write("notes/both", value)
    with pytest.raises(SystemExit) as left:
        run(["merge", "dev"])
    assert left.value.code == 3
    assert "notes/both" in capfd.readouterr().out
    vz_(capfd, "merge", "dev", "--resolve", "theirs")
    assert vz.open(place).checkout().read("notes/both") == b"2"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", "nothing"], 1),
        (["-C", "/nowhere/at/all", "log"], 1),
        (["log", "--nonsense"], 2),
        (["frobnicate"], 2),
        (["merge", "nothing"], 1),
        (["cat", "main", "no/such/key"], 1),
        (["init", "s3://bucket/x"], 1),
    ],
)
def test_errors_are_said_on_stderr(
    place: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    said = vz_(capfd, *arguments, code=code)
    assert said.strip()
    assert "Traceback" not in said
    if code == 1:
        assert said.startswith("vz: ")
        assert len(said.splitlines()) == 1


def test_housekeeping(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert vz_json(capfd, "gc", "-n")["removed_blocks"] == 0
    assert vz_json(capfd, "repack")["removed_packs"] > 0
    assert vz_json(capfd, "fsck")["is_clean"]
    assert vz_json(capfd, "stats")["commits"] == 4
    assert vz_json(capfd, "status")["sessions"] == []


def test_fsck_leaves_with_one_on_damage(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pack = next((place / "packs").glob("*.pack"))
    data = bytearray(pack.read_bytes())
    data[200] ^= 1
    pack.write_bytes(data)
    vz_(capfd, "fsck", code=1)


def test_sessions_left_behind_are_listed_and_finished(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    left = vz.open(place).session()
    left.write("notes/left", b"behind")
    left._working.end("died", keep_folder=True)
    (info,) = vz_json(capfd, "sessions")
    assert (info["id"], info["is_alive"], info["keys"]) == (left.id, False, 1)
    assert "left behind" in vz_(capfd, "status")
    vz_(capfd, "sessions", "--commit", left.id, code=2)
    vz_(capfd, "sessions", "--commit", left.id, "-m", "found")
    assert vz.open(place).checkout().read("notes/left") == b"behind"
    assert vz_json(capfd, "sessions") == []


def test_import_export_and_cid_agree(
    tmp_path: Path, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "plain.zarr"
    (plain / "a" / "c").mkdir(parents=True)
    (plain / "zarr.json").write_text("{}")
    (plain / "a" / "zarr.json").write_text("{}")
    (plain / "a" / "c" / "0").write_bytes(os.urandom(2_000_000))
    vz_(capfd, "import", str(plain), "-p", "imported", "-m", "in")
    snapshot = vz.open(place).checkout().path("imported")
    assert vz_(capfd, "cid", str(plain)).strip() == snapshot.cid
    vz_(capfd, "export", "main", str(tmp_path / "out"), "-p", "imported")
    assert vz_(capfd, "cid", str(tmp_path / "out")).strip() == snapshot.cid


def test_the_repository_around_the_working_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    vz_(capfd, "init", str(tmp_path / "here.vz"))
    monkeypatch.chdir(tmp_path / "here.vz" / "refs")
    assert len(vz_json(capfd, "log")) == 1


def test_the_program_runs_by_itself(place: Path) -> None:
    command = [sys.executable, "-m", "versioned_zarr.cli"]
    done = subprocess.run(
        [*command, "log", "--oneline"], capture_output=True, text=True, check=True
    )
    assert "on main" in done.stdout
    done = subprocess.run(
        [*command, "completion", "bash"], capture_output=True, text=True, check=True
    )
    assert "_vz_completion" in done.stdout
