"""The command vz: what it prints, where, and the code it leaves with."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from versioned_zarr.cli.app import cli, run
from versioned_zarr.cli.shell.examples import EXAMPLES

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "bisect", "blame", "branch", "bundle", "cache", "cat", "cherry-pick", "cid", "clone",
    "commit", "completion", "config", "cp", "diff", "export", "fetch", "fsck", "gc", "help",
    "hierarchy", "import",
    "init", "log", "ls", "merge", "mv", "publish", "pull", "push", "reflog", "remote", "repack",
    "restore", "revert", "rm", "serve", "sessions", "show", "squash", "stats", "status", "tag",
    "tree", "undo",
]  # fmt: skip


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Vz:
    """Runs vz in this process, in the folder of a repository."""

    def __init__(self, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self._captured = capfdbinary

    def __call__(self, *arguments: str, code: int = 0) -> Result:
        self._captured.readouterr()
        found: Any = 0
        try:
            run(list(arguments))
        except SystemExit as error:
            found = error.code or 0
        sys.stdout.flush()
        out, err = self._captured.readouterr()
        result = Result(found, out.decode(), err.decode())
        assert result.code == code, result
        return result

    def fails(self, *arguments: str, code: int = 1) -> str:
        """Run what must fail; the one line that it says."""
        result = self(*arguments, code=code)
        assert result.out == ""
        (line,) = result.err.splitlines()
        assert line.startswith("vz: ")
        return line.removeprefix("vz: ")


@pytest.fixture
def vz_(capfdbinary: pytest.CaptureFixture[bytes]) -> Vz:
    return Vz(capfdbinary)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "plain.zarr"
    group = zarr.create_group(str(folder), zarr_format=3)
    array = group.create_array("x", shape=(8,), chunks=(2,), dtype="i4", attributes={"units": "K"})
    array[:] = np.arange(8)
    return folder


@pytest.fixture
def repository(
    tmp_path: Path, plain: Path, vz_: Vz, monkeypatch: pytest.MonkeyPatch
) -> vz.Repository:
    """A repository in the folder that we are in, with an import on main."""
    folder = tmp_path / "r.vz"
    monkeypatch.delenv("VERSIONED_ZARR_REPO", raising=False)
    monkeypatch.setenv("VERSIONED_ZARR_AUTHOR", "Ada <ada@example.org>")
    vz_("init", str(folder))
    monkeypatch.chdir(folder)
    vz_("import", str(plain), "-m", "import it")
    return vz.open(folder)


def change(repository: vz.Repository, at: int, value: int, branch: str = "main") -> vz.Commit:
    session = repository.session(branch)
    zarr.open_array(session.store, path="x")[2 * at : 2 * at + 2] = value
    return session.commit(f"set {at} to {value}")


def test_every_command_is_listed_and_has_help(vz_: Vz, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(cli.commands) == COMMANDS
    monkeypatch.setenv("COLUMNS", "80")
    listing = vz_("--help").out
    assert not any(line.endswith("...") for line in listing.splitlines()[1:])  # none is cut
    for name in COMMANDS:
        assert f"\n  {name} " in listing
        assert vz_(name, "--help").out.startswith(f"Usage: vz {name}")
        assert vz_(name, "-h").out == vz_(name, "--help").out
    assert "Exit codes: 0 done" in listing
    assert vz_("--version").out == f"vz, version {vz.__version__}\n"


@pytest.mark.parametrize("words", sorted(EXAMPLES))
def test_the_help_of_a_command_has_an_example_that_parses(
    vz_: Vz, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("old.zarr", "v1.car"):
        (tmp_path / name).touch()
    example = EXAMPLES[words]
    assert f"Example:  {example}" in " ".join(vz_(*words.split(), "--help").out.split("\n"))
    typed = shlex.split(example)
    assert typed[0] == "vz"
    context = cli.make_context("vz", typed[1:])
    command, rest, path = cli, [*context._protected_args, *context.args], []
    while isinstance(command, click.Group):
        path.append(rest[0])
        command, rest = command.commands[rest[0]], rest[1:]
    assert " ".join(path) == words
    command.make_context(path[-1], rest)


def test_every_command_that_shows_or_makes_something_has_json(vz_: Vz) -> None:
    # Scripts, help, raw bytes, a server, and commands that print nothing.
    without = {"completion", "help", "cat", "serve", "remote add", "remote delete", "cache clear"}
    for words in EXAMPLES:
        found: Any = cli
        for name in words.split():
            found = found.commands[name]
        has_json = any("--json" in parameter.opts for parameter in found.params)
        assert has_json is (words not in without), words


# Where the repository is


def test_init_says_where_and_not_twice(tmp_path: Path, vz_: Vz) -> None:
    place = tmp_path / "new.vz"
    assert vz_("init", str(place)).out == f"new repository at {place.as_uri()}\n"
    assert vz.open(place).hash == "sha2-256"
    assert "not empty" in vz_.fails("init", str(place))
    made = vz_("-C", str(tmp_path / "other.vz"), "init", "--hash", "blake3", "--json").json
    assert made == {"url": (tmp_path / "other.vz").as_uri(), "hash": "blake3"}
    assert vz.open(tmp_path / "other.vz").hash == "blake3"


def test_init_makes_a_repository_here(
    tmp_path: Path, vz_: Vz, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    vz_("init")
    assert list(vz.open(tmp_path).branches) == ["main"]


def test_the_repository_is_found_from_inside_by_option_and_by_environment(
    repository: vz.Repository, tmp_path: Path, vz_: Vz, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = vz_("branch").out
    monkeypatch.chdir(tmp_path / "r.vz" / "packs")
    assert vz_("branch").out == here
    monkeypatch.chdir(tmp_path)
    assert "no repository" in vz_.fails("branch")
    assert vz_("-C", "r.vz", "branch").out == here
    assert vz_("-C", repository.url, "branch").out == here
    monkeypatch.setenv("VERSIONED_ZARR_REPO", "r.vz")
    assert vz_("branch").out == here
    assert "no repository" in vz_.fails("-C", "elsewhere", "branch")


# Looking


def test_log_shows_commits(repository: vz.Repository, vz_: Vz) -> None:
    commit = change(repository, 0, 7)
    repository.tags.create("v1")
    out = vz_("log").out
    assert f"commit {commit.cid} (main, tag: v1)\n" in out
    assert "Author: Ada <ada@example.org>" in out
    assert "    set 0 to 7" in out
    lines = vz_("log", "--oneline").out.splitlines()
    assert lines[0] == f"{commit.cid[:16]} (main, tag: v1) set 0 to 7"
    assert [line.split(" ", 1)[1] for line in lines[1:]] == ["import it", "Create the repository"]
    assert len(vz_("log", "-n", "1", "--oneline").out.splitlines()) == 1
    assert vz_("log", "main~1", "--json").json == [
        found.to_dict() for found in repository.log("main~1")
    ]
    paths = vz_("log", "--path", "x/c/0", "--json").json
    assert [found["message"] for found in paths] == ["set 0 to 7", "import it"]


def test_log_draws_the_graph(repository: vz.Repository, vz_: Vz) -> None:
    repository.branches.create("other")
    change(repository, 0, 7)
    change(repository, 1, 8, "other")
    repository.merge("other")
    out = vz_("log", "--graph").out
    for found in repository.log():
        assert f"{found.cid[:16]}" in out
    assert "|" in out
    assert len(out.splitlines()) > 5


def test_gc_may_be_told_to_keep_the_whole_log(repository: vz.Repository, vz_: Vz) -> None:
    repository.branches.create("gone")
    change(repository, 0, 7, "gone")
    repository.branches.delete("gone")
    for days in ("1e12", "inf", "nan"):
        assert vz_("gc", "--keep-reflog", days, "--json").json["removed_blocks"] == 0
    assert vz_("gc", "--keep-reflog", "0", "--json").json["removed_blocks"] > 0


def test_the_graph_of_a_path_is_one_line(repository: vz.Repository, vz_: Vz) -> None:
    change(repository, 0, 7)
    change(repository, 1, 8)
    change(repository, 0, 9)
    lines = vz_("log", "--graph", "--path", "x/c/0").out.splitlines()
    messages = ["set 0 to 9", "set 0 to 7", "import it"]
    assert [line.partition(" ")[0] for line in lines] == ["*"] * 3
    assert all(line.endswith(message) for line, message in zip(lines, messages, strict=True))


def test_show_gives_the_commit_and_its_diff(repository: vz.Repository, vz_: Vz) -> None:
    commit = change(repository, 0, 7)
    out = vz_("show").out
    assert commit.cid in out
    assert "changed array x; chunks: 1 changed" in out
    document = vz_("show", "main", "--json").json
    assert document["cid"] == commit.cid
    assert document["diff"]["changed"] == ["x"]
    assert "is a tree" in vz_.fails("show", commit.tree)


def test_diff_compares_two_refs_or_all_since_one(repository: vz.Repository, vz_: Vz) -> None:
    change(repository, 0, 7)
    one, two = vz_("diff", "main~1"), vz_("diff", "main~1", "main")
    assert one.out == two.out == "main~1 → main\nchanged array x; chunks: 1 changed\n"
    assert "1 node, 1 key differs" in vz_("diff", "--stat", "main~1").out
    assert vz_("diff", "main~1", "--json").json["nodes"][0]["chunks"][0]["coordinates"] == [0]
    assert vz_("diff", "main", "main").out == (
        "main → main\nno differences\nwhat its last commit changed: vz show main\n"
    )
    vz_("diff", "--exit-code", "main", "main")
    vz_("diff", "--exit-code", "main~1", code=1)
    vz_("diff", "--exit-code", "--json", "main~1", code=1)


def test_diff_with_one_ref_goes_up_to_the_head_of_its_branch(
    repository: vz.Repository, vz_: Vz
) -> None:
    first = change(repository, 0, 7)
    repository.branches.create("dev")
    repository.tags.create("v1")
    change(repository, 1, 8, "dev")
    change(repository, 1, 9, "dev")
    change(repository, 2, 9)
    assert vz_("diff", "main~2").out == "main~2 → main\nchanged array x; chunks: 2 changed\n"
    assert vz_("diff", "dev~1").out == "dev~1 → dev\nchanged array x; chunks: 1 changed\n"
    assert vz_("diff", "heads/dev~1").out.startswith("heads/dev~1 → dev\n")
    assert vz_("diff", "dev@{1}").out == "dev@{1} → dev\nchanged array x; chunks: 1 changed\n"
    assert vz_("diff", "dev").out == "dev → main\nchanged array x; chunks: 2 changed\n"
    assert vz_("diff", "v1").out == "v1 → main\nchanged array x; chunks: 1 changed\n"
    assert vz_("diff", f"{first.cid}~1").out.startswith(f"{first.cid}~1 → main\n")
    assert vz_("diff", "main").out == vz_("diff", "main", "main").out
    assert vz_("diff", "main..dev").out.startswith("main → dev\n")
    assert vz_("diff", "main...dev").out == (
        f"{first.cid} → dev\nchanged array x; chunks: 1 changed\n"
    )
    assert vz_("show", "dev~1").out.endswith("changed array x; chunks: 1 changed\n")


def test_status_shows_branches_and_what_was_left_behind(repository: vz.Repository, vz_: Vz) -> None:
    assert "nothing uncommitted" in vz_("status").out
    session = repository.session()
    session.write("x/c/0", b"other")
    assert f"session {session.id} on main: 1 key, open" in vz_("status").out
    session._working.end("died", keep_folder=True)
    assert "left behind" in vz_("status").out
    (found,) = vz_("status", "--json").json["sessions"]
    assert found["changes"]["changed"] == ["x"]
    assert vz_("status", "--json").json["branches"] == {"main": repository.branches["main"].cid}


def test_ls_and_cat_show_what_is_there(repository: vz.Repository, vz_: Vz) -> None:
    assert vz_("ls").out == "x/\nzarr.json\n"
    assert vz_("ls", "main", "x/c").out.split() == ["0", "1", "2", "3"]
    assert vz_("ls", "-r").out.split() == sorted(repository.checkout().keys())
    size = repository.checkout().size("zarr.json")
    assert f"{size}  zarr.json" in vz_("ls", "-l").out
    assert {"name": "zarr.json", "size": size} in vz_("ls", "--json").json
    assert {"name": "x", "size": None} in vz_("ls", "--json").json
    assert vz_("cat", "main", "zarr.json").json["node_type"] == "group"
    assert "nothing" in vz_.fails("cat", "main", "nothing")


# Refs and merging


def test_branch_makes_moves_renames_and_deletes(repository: vz.Repository, vz_: Vz) -> None:
    second = change(repository, 0, 7)
    vz_("branch", "old", "main~1")
    assert repository.branches["old"].cid == second.parents[0]
    assert "already exists" in vz_.fails("branch", "old")
    vz_("branch", "-f", "old", "main")
    assert repository.branches["old"] == second
    assert vz_("branch", "third", "main~1", "--json").json["cid"]
    vz_("branch", "fourth")
    vz_("branch", "-d", "third", "fourth")
    vz_("branch", "-m", "old", "new")
    for wrong in (["-m", "new"], ["-d"], ["a", "b", "c"]):
        vz_("branch", *wrong, code=2)
    listing = vz_("branch").out.splitlines()
    assert [line.split()[:2] for line in listing] == [["main", second.cid], ["new", second.cid]]
    assert set(vz_("branch", "--json").json) == {"main", "new"}
    vz_("branch", "-d", "new")
    assert list(repository.branches) == ["main"]
    assert "last branch" in vz_.fails("branch", "-d", "main")
    assert "cannot be the name" in vz_.fails("branch", "a..b")


def test_tag_makes_and_deletes(repository: vz.Repository, vz_: Vz) -> None:
    assert vz_("tag").out == ""
    vz_("tag", "v1")
    assert vz_("tag").out.startswith(f"v1  {repository.branches['main'].cid}")
    assert vz_("tag", "--json").json["v1"]["message"] == "import it"
    assert "already exists" in vz_.fails("tag", "v1", "main~1")
    vz_("tag", "-d", "v1")
    assert list(repository.tags) == []
    assert "not found" in vz_.fails("tag", "-d", "v1")


def test_merge_revert_cherry_pick_and_squash_say_what_they_made(
    repository: vz.Repository, vz_: Vz
) -> None:
    repository.branches.create("other")
    change(repository, 0, 7)
    picked = change(repository, 1, 8, "other")
    out = vz_("cherry-pick", picked.cid).out
    assert out == f"{repository.branches['main'].cid} set 1 to 8\n"
    assert vz_("revert", "main", "--json").json["parents"] == [out.split()[0]]
    made = vz_("merge", "other", "-m", "joined", "--json").json
    assert made["message"] == "joined"
    assert len(made["parents"]) == 2
    squashed = vz_("squash", "main~1", "-m", "one").out
    assert squashed.endswith(" one\n")
    assert repository.branches["main"].tree == made["tree"]


def test_conflicts_leave_with_3_and_name_each(repository: vz.Repository, vz_: Vz) -> None:
    repository.branches.create("other")
    head = change(repository, 0, 7)
    change(repository, 0, 8, "other")
    result = vz_("merge", "other", code=3)
    assert result.out.startswith("conflict: x/c/0: changed on both sides (")
    assert result.out.count("\n") == 1
    assert result.err == (
        "vz: 1 conflict between branch 'main' and 'other'; nothing was committed and nothing "
        "is lost\n"
    )
    [told] = vz_("merge", "other", "--json", code=3).json["conflicts"]
    assert told["path"] == "x"
    assert [chunk["key"] for chunk in told["chunks"]] == ["x/c/0"]
    assert repository.branches["main"] == head
    vz_("merge", "other", "--resolve", "theirs")
    assert repository.diff("main", "other").is_empty


# Keeping


def test_gc_repack_fsck_and_stats_speak_both_ways(repository: vz.Repository, vz_: Vz) -> None:
    change(repository, 0, 7)
    assert vz_("gc", "--dry-run").out.startswith("would remove 0 blocks")
    assert vz_("gc", "--keep-reflog", "0").out.startswith("removed ")
    assert vz_("gc", "--json").json["removed_blocks"] == 0
    assert vz_("repack").out.startswith("repacked ")
    assert "removed_packs" in vz_("repack", "--json").json
    assert vz_("fsck").out.startswith("clean: ")
    assert vz_("fsck", "--quick", "--json").json["is_clean"] is True
    assert vz_("stats").out
    assert vz_("stats", "--json").json


def test_fsck_leaves_with_1_if_there_is_damage(
    repository: vz.Repository, tmp_path: Path, vz_: Vz
) -> None:
    pack = max((tmp_path / "r.vz" / "packs").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    result = vz_("fsck", code=1)
    assert "NOT clean" in result.out
    assert pack.name in result.out
    assert vz_("fsck", "--json", code=1).json["is_clean"] is False


def test_sessions_are_listed_committed_and_deleted(repository: vz.Repository, vz_: Vz) -> None:
    ids = []
    for number in range(2):
        session = repository.session()
        session.write(f"note{number}", b"text")
        session._working.end("died", keep_folder=True)
        ids.append(session.id)
    out = vz_("sessions").out
    assert all(f"{name}  main  1 key  dead" in out for name in ids)
    assert {info["id"] for info in vz_("sessions", "--json").json} == set(ids)
    assert "needs a message" in vz_("sessions", "--commit", ids[0], code=2).err
    assert vz_("sessions", "--commit", ids[0], "-m", "late").out.endswith(" late\n")
    vz_("sessions", "--delete", ids[1])
    assert vz_("sessions").out == ""
    assert "note0" in repository.checkout().mapping
    assert "no session" in vz_.fails("sessions", "--delete", ids[1])


def test_a_session_is_shown_with_how_complete_its_arrays_are(
    repository: vz.Repository, vz_: Vz
) -> None:
    session = repository.session()
    array = zarr.create_array(session, name="new/air", shape=(9,), chunks=(2,), dtype="i4")
    array[2:6] = 1
    out = vz_("sessions", session.id).out
    assert f"{session.id}  main  4 keys  alive" in out
    assert "  new/air 2/5 chunks\n" in out
    found = vz_("sessions", session.id, "--json").json
    assert found["arrays"] == {"new/air": {"path": "new/air", "chunks": 5, "written": 2}}
    assert found["size_bytes"] == sum(size for _, size in session.sizes("new"))
    assert (found["keys"], found["id"]) == (4, session.id)
    session.discard()
    assert "no session" in vz_.fails("sessions", session.id)


# In and out


def test_the_cid_of_a_folder_is_that_of_its_import_and_export(
    repository: vz.Repository, plain: Path, tmp_path: Path, vz_: Vz
) -> None:
    cid = vz_("cid", str(plain)).out.strip()
    assert cid == repository.checkout().cid
    out = vz_("export", "main", str(tmp_path / "out")).out
    assert out == f"{cid} written to {tmp_path / 'out'}\n"
    assert vz_("cid", str(tmp_path / "out")).out.strip() == cid
    folder = str(tmp_path / "x")
    told = {"cid": repository.checkout().path("x").cid, "folder": folder}
    assert vz_("export", "main", folder, "-p", "x", "--json").json == told
    assert vz_("cid", folder, "--json").json == {"cid": told["cid"], "path": folder}
    assert vz_("cid", "--hash", "blake3", str(plain)).out.strip() != cid
    file = plain / "zarr.json"
    assert vz_("cid", str(file)).out.startswith("bafkrei")


def test_the_cid_of_odd_folders(tmp_path: Path, vz_: Vz) -> None:
    empty = tmp_path / "empty"
    (empty / "below").mkdir(parents=True)
    assert vz_("cid", str(empty)).out == (
        "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354\n"
    )
    large = tmp_path / "large"
    (large / "a").mkdir(parents=True)
    (large / "a" / "b").write_bytes(bytes(range(256)) * 10_000)
    (large / ".hidden").write_bytes(b"")
    repository = vz.create(tmp_path / "r.vz")
    session = repository.session()
    session.write("a/b", bytes(range(256)) * 10_000)
    session.write(".hidden", b"")
    session.commit("same")
    assert vz_("cid", str(large)).out.strip() == repository.checkout().cid
    vz_("cid", str(tmp_path / "none"), code=2)


def test_import_and_export_do_not_overwrite(
    repository: vz.Repository, plain: Path, tmp_path: Path, vz_: Vz
) -> None:
    assert "not empty" in vz_.fails("import", str(plain))
    vz_("import", str(plain), "--path", "copy", "-j", "2")
    snapshot = repository.checkout()
    assert snapshot.path("copy").cid == repository.checkout("main~1").cid
    assert snapshot.commit is not None
    assert snapshot.commit.message == f"Import {plain}"
    assert "no Zarr" in vz_.fails("import", str(plain / "x" / "c"), "-p", "new")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "mine.txt" in vz_.fails("export", "main", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("name", "data", "says", "of_commit"),
    [
        ("E1.nc", b"data", "as netCDF or HDF5", "is netcdf, not Zarr; run 'vz import' on it"),
        ("E1.tif", b"II*\0", "is TIFF, which is not imported; convert it", "is TIFF"),
        ("E1.dat", b"data", "or one of these formats: zarr (", "or one of these formats"),
    ],
)
def test_what_is_no_data_of_a_format_is_said(
    repository: vz.Repository,
    tmp_path: Path,
    vz_: Vz,
    name: str,
    data: bytes,
    says: str,
    of_commit: str,
) -> None:
    pytest.importorskip("netCDF4")
    (tmp_path / name).write_bytes(data)
    assert says in vz_.fails("import", str(tmp_path / name), "-p", "new")
    assert of_commit in vz_.fails("commit", str(tmp_path / name), "-m", "x")


def test_no_advice_is_python(
    repository: vz.Repository, plain: Path, tmp_path: Path, vz_: Vz
) -> None:
    assert vz_.fails("import", str(plain)).endswith("choose another path, or pass --overwrite")
    assert "use it with -C" in vz_.fails("init", str(tmp_path / "r.vz"))
    assert vz_.fails("rm", "x/c/9").startswith("nothing at 'x/c/9'")
    assert vz_.fails("export", "main", "out", "--max-keys", "1").endswith("--max-keys 8")
    assert "pass" not in vz_.fails("commit", str(plain), "-m", "same")
    assert "run the command again" not in vz_.fails("sessions", "--commit", "nope", "-m", "x")


def test_nothing_but_results_goes_to_a_pipe(
    repository: vz.Repository, plain: Path, tmp_path: Path, vz_: Vz
) -> None:
    done = vz_("import", str(plain), "-p", "again")
    assert done.err == ""
    assert "\x1b" not in done.out
    assert done.out == f"{repository.branches['main'].cid} Import {plain}\n"
    assert vz_("export", "main", str(tmp_path / "out")).err == ""


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["log", "mian"], "did you mean 'main'?"),
        (["log", "main~9"], "goes back too far"),
        (["diff", "main", "nope"], "'nope' not found"),
        (["cat", "main", "no/such"], "no/such"),
        (["revert", "main~1"], "root commit"),
        (["squash", "main"], "nothing to squash"),
        (["merge", "main", "--into", "nope"], "'nope' not found"),
        (["-C", "foo://x", "log"], "unknown scheme"),
        (["-C", "s3:///x", "log"], "must have the form s3://BUCKET/PREFIX"),
    ],
)
def test_an_error_is_one_line_on_stderr(
    repository: vz.Repository, vz_: Vz, arguments: list[str], says: str
) -> None:
    assert says in vz_.fails(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"], ["log", "--no-such"], ["diff"], ["cat", "main"], ["log", "-n", "0"],
        ["merge", "x", "--resolve", "mine"], ["completion", "tcsh"], ["gc", "--keep-reflog", "-1"],
    ],
)  # fmt: skip
def test_wrong_usage_leaves_with_2(
    repository: vz.Repository, vz_: Vz, arguments: list[str]
) -> None:
    assert "see 'vz" in vz_.fails(*arguments, code=2)


# As a program


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **more}


def program(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "versioned_zarr.cli", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, check=False
    )


def test_the_program_leaves_with_its_codes(repository: vz.Repository, tmp_path: Path) -> None:
    done = program("branch", "--json", cwd=tmp_path / "r.vz" / "refs")
    assert done.returncode == 0
    assert list(json.loads(done.stdout)) == ["main"]
    failed = program("log", "mian", cwd=tmp_path / "r.vz")
    assert failed.returncode == 1
    assert failed.stderr == (f"vz: 'mian' not found in '{repository.url}'; did you mean 'main'?\n")
    assert program("nonsense", cwd=tmp_path).returncode == 2
    repository.branches.create("other")
    change(repository, 0, 7)
    change(repository, 0, 8, "other")
    assert program("merge", "other", cwd=tmp_path / "r.vz").returncode == 3


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(vz_: Vz, shell: str) -> None:
    assert "_VZ_COMPLETE" in vz_("completion", shell).out


def test_the_shell_completes_words(tmp_path: Path) -> None:
    words = {"_VZ_COMPLETE": "bash_complete", "COMP_WORDS": "vz st", "COMP_CWORD": "1"}
    done = program(cwd=tmp_path, **words)
    assert {line.split(",")[1] for line in done.stdout.splitlines()} == {"stats", "status"}


def test_a_reader_that_leaves_early_is_no_failure_to_speak_of(
    repository: vz.Repository, tmp_path: Path
) -> None:
    command = f"'{sys.executable}' -m versioned_zarr.cli log | head -1"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path / "r.vz",
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("commit ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plain = tmp_path / "plain.zarr"
    array = zarr.create_array(
        str(plain), shape=(3000,), chunks=(1,), dtype="i4", compressors=None, fill_value=-1
    )
    array[:] = np.arange(3000)
    place = tmp_path / "r.vz"
    vz.create(place)
    process = subprocess.Popen(
        [sys.executable, "-m", "versioned_zarr.cli", "-C", str(place), "import", str(plain)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A run of the tests in the background may ignore interrupts, and a child would inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while not sum(path.stat().st_size for path in place.glob("sessions/*/journal")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.count("\n") == 1
    (left,) = vz.open(place).sessions.values()
    assert not left.is_alive
    assert 0 < left.keys < 3001
    again = program("-C", str(place), "import", str(plain), "--processes", "2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert not vz.open(place).sessions
    snapshot = vz.open(place).checkout()
    assert len(list(snapshot.keys())) == 3001
    assert program("cid", str(plain), cwd=tmp_path).stdout.strip() == snapshot.cid
