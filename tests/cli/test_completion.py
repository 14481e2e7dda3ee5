"""The tab key: refs, paths, sessions and remotes, without errors and without long waits."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zarr

import versioned_zarr as vz

pytest.importorskip("click")
import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from versioned_zarr.cli.app import cli

ROOT = Path(__file__).parents[2]
SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vz.Repository:
    """A repository in the folder that we are in, with one of everything."""
    monkeypatch.delenv("VERSIONED_ZARR_REPO", raising=False)
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="an array") as session:
        array = zarr.create_array(session, name="air/t", shape=(4,), chunks=(2,), dtype="i4")
        array[:] = 1
    repository.branches.create("dev")
    repository.tags.create("v1")
    vz.clone(repository.url, tmp_path / "copy.vz")
    repository.remotes.add("origin", tmp_path / "copy.vz")
    repository.fetch("origin")
    left = repository.session("dev")
    left.write("air/t/c/0", b"other")
    left._working.end("died", keep_folder=True)
    monkeypatch.chdir(tmp_path / "r.vz")
    return repository


def offered(monkeypatch: pytest.MonkeyPatch, line: str, shell: str = "bash") -> set[str]:
    """What a shell offers at the end of a line, by click's protocol."""
    words = line.split(" ")
    number = str(len(words) - 1) if shell != "fish" else words[-1]
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", number)
    answer = SHELLS[shell](cli, {}, "vz", "_VZ_COMPLETE").complete().split("\n")
    if shell == "zsh":  # type, value and help on a line each
        return set(answer[1::3])
    found = {line.partition(",")[2] for line in answer}
    return {each.partition("\t")[0] for each in found} - {""}


REFS = {"main", "dev", "v1", "origin/main", "origin/dev"}


@pytest.mark.parametrize(
    "line",
    [
        "log ", "show ", "diff ", "diff main ", "merge ", "revert ", "cherry-pick ", "squash ",
        "ls ", "cat ", "export ", "publish ", "bundle export ", "bundle export --since ",
        "serve --ref ", "push --lease ", "tree ", "branch new ", "branch ", "tag v2 ",
    ],
)  # fmt: skip
def test_refs_are_offered(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    assert offered(monkeypatch, f"vz {line}") == REFS
    assert offered(monkeypatch, f"vz {line}ma") == {"main"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("branch -d ", {"main", "dev"}), ("branch -m ", {"main", "dev"}),
        ("merge dev --into ", {"main", "dev"}), ("import x --into ", {"main", "dev"}),
        ("revert v1 --into ", {"main", "dev"}), ("squash v1 --into ", {"main", "dev"}),
        ("cherry-pick v1 --into ", {"main", "dev"}), ("tag -d ", {"v1"}),
        ("push origin ", {"main", "dev", "v1"}), ("fetch origin ", {"main", "dev", "v1"}),
        ("pull origin ", {"main", "dev", "v1"}),
        ("push ", {"origin"}), ("pull ", {"origin"}), ("fetch ", {"origin"}),
        ("remote delete ", {"origin"}), ("undo ", {"main", "dev"}), ("reflog ", {"main", "dev"}),
        ("rm x -b ", {"main", "dev"}), ("mv x y -b ", {"main", "dev"}),
        ("commit x -b ", {"main", "dev"}), ("help remote ", {"add", "delete", "list"}),
        ("help bundle e", {"export"}),
    ],
)  # fmt: skip
def test_names_are_offered(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, line: str, words: set[str]
) -> None:
    assert offered(monkeypatch, f"vz {line}") == words


@pytest.mark.parametrize(
    "line",
    [
        "ls main ",
        "cat main ",
        "log --path ",
        "export main out -p ",
        "import old -p ",
        "tree main ",
        "rm ",
        "rm air ",
        "mv ",
        "mv air/t ",
        "cp ",
        "restore ",
        "commit old -p ",
    ],
)
def test_paths_are_offered_a_level_at_a_time(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    assert offered(monkeypatch, f"vz {line}") == {"air/", "zarr.json"}
    assert offered(monkeypatch, f"vz {line}air/t/") == {"air/t/c/", "air/t/zarr.json"}
    # With a second candidate, bash adds no space after the folder.
    assert offered(monkeypatch, f"vz {line}ai") == {"air/", "air/t/", "air/zarr.json"}


@pytest.mark.parametrize(
    "line", ["sessions ", "sessions --delete ", "sessions --commit ", "commit "]
)
def test_sessions_are_offered(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    assert offered(monkeypatch, f"vz {line}") == set(repository.sessions)


def test_what_clone_takes_is_that_of_its_source(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "copy.vz"
    assert offered(monkeypatch, f"vz clone {source} x -r ") == {"main", "dev", "v1"}
    assert offered(monkeypatch, f"vz clone {source} x -p ") == {"air/", "zarr.json"}


def test_commits_are_offered_by_their_distance(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered(monkeypatch, "vz show main~") == {"main~1"}
    assert offered(monkeypatch, "vz show main^") == {"main^"}
    assert offered(monkeypatch, "vz show main@") == {"main@{0}", "main@{1}"}
    assert offered(monkeypatch, "vz diff main..d") == {"main..dev"}
    assert offered(monkeypatch, "vz diff main...d") == {"main...dev"}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_is_served(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    assert offered(monkeypatch, "vz show d", shell) == {"dev"}


def test_the_repository_of_the_line_is_asked(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vz.create(tmp_path / "other.vz").branches.create("else")
    assert offered(monkeypatch, f"vz -C {tmp_path / 'other.vz'} show ") == {"main", "else"}


REPEATED = {"ref", "refs", "path", "paths", "base", "other", "into", "since", "branch", "id"}


def parameters(group: click.Group, words: str = "vz") -> Iterator[tuple[str, click.Parameter]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from parameters(command, f"{words} {name}")
        else:
            yield from ((f"{words} {name}", each) for each in command.params)


def test_no_parameter_for_refs_or_paths_is_without_completion() -> None:
    new_names = {("vz bundle import", "branch"), ("vz cid", "path")}
    missing = {
        (words, each.name)
        for words, each in parameters(cli)
        if each.name in REPEATED and each._custom_shell_complete is None
    }
    assert missing - new_names == set()


@pytest.mark.parametrize(
    "line", ["vz -C nowhere show ", "vz -C foo://x ls ", "vz ls nope ", "vz show no~", 'vz show "']
)
def test_what_fails_offers_nothing(
    repository: vz.Repository,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
) -> None:
    offered(monkeypatch, line)
    assert capfd.readouterr().err == ""


def test_a_server_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    pytest.importorskip("httpx")
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts nothing
        url = f"ipfs+http://127.0.0.1:{server.getsockname()[1]}/name"
        words = {"COMP_WORDS": f"vz -C {url} show ", "COMP_CWORD": "4"}
        done = subprocess.run(
            [sys.executable, "-m", "versioned_zarr.cli"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "_VZ_COMPLETE": "bash_complete", **words},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_the_help_shows_a_line_for_each_shell() -> None:
    shown = cli.commands["completion"].get_help(click.Context(cli, info_name="vz")).splitlines()
    lines = ['eval "$(vz completion bash)"', 'eval "$(vz completion zsh)"']
    assert {*lines, "vz completion fish | source"} <= {line.strip() for line in shown}
