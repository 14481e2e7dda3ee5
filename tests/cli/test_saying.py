"""How vz speaks: in one line, in any encoding, of what it did not do, and without secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click
import pytest

import versioned_zarr as vz
from versioned_zarr.cli.app import run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vz.Repository:
    """A repository in the folder that we are in."""
    monkeypatch.delenv("VERSIONED_ZARR_REPO", raising=False)
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    repository = vz.create(tmp_path / "r.vz")
    session = repository.session()
    session.write("a", b"1")
    session.commit("Größe :bug:")
    monkeypatch.chdir(tmp_path / "r.vz")
    return repository


def fails(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """Run what must fail; the one line that it says."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as left:
        run(list(arguments))
    out, err = capfd.readouterr()
    assert (left.value.code, out) == (code, "")
    assert err.startswith("vz: ")
    assert err.endswith("\n")
    assert err[:-1].isprintable()
    return err


def program(*arguments: str, shell: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "versioned_zarr.cli", *arguments]
    return subprocess.run(
        ["sh", "-c", f'"$@" {shell}', "sh", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
        capture_output=True,
        text=True,
        check=False,
    )


# Where it goes to


@pytest.mark.parametrize("encoding", ["ascii", "ascii:surrogateescape"])
def test_what_the_terminal_has_no_letters_for_is_spelled_out(
    repository: vz.Repository, encoding: str
) -> None:
    repository.branches.create("Größe-☃")
    for command in (["log"], ["log", "--graph"], ["branch"]):
        done = program(*command, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Gr\\xf6\\xdfe" in done.stdout
    listed = json.loads(program("log", "--json", PYTHONIOENCODING=encoding).stdout)
    assert listed[0]["message"] == "Größe :bug:"
    failed = program("log", "☃", PYTHONIOENCODING=encoding)
    assert failed.returncode == 1
    assert failed.stderr.startswith("vz: '\\u2603' not found")


def test_a_value_needs_somewhere_to_go(repository: vz.Repository) -> None:
    done = program("cat", "main", "a", shell=">&-")
    assert done.returncode == 1
    assert done.stderr == "vz: standard output is closed; redirect it to a file or a pipe\n"
    assert program("log", shell=">&-").stderr == ""
    assert program("log", "nope", shell="2>&-").returncode == 1


def test_a_word_between_colons_is_no_picture(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    run(["log", "--oneline", "-n", "1"])
    assert capfd.readouterr().out.endswith("Größe :bug:\n")
    assert "':bug:'" in fails(capfd, "log", ":bug:")


def test_an_import_shows_that_it_lists(repository: vz.Repository, tmp_path: Path) -> None:
    (tmp_path / "plain.zarr").mkdir()
    (tmp_path / "plain.zarr" / "zarr.json").write_text("{}")
    shown = program("import", str(tmp_path / "plain.zarr"), "-p", "x", FORCE_COLOR="1").stderr
    assert "listing" in shown
    assert shown.index("listing") < shown.index("importing")


# Errors


@pytest.mark.parametrize("code", [1, 2])
def test_an_error_is_one_line_whatever_a_server_says(
    repository: vz.Repository,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    said = "answered 500:\r\n<html>\n\t<b>\x1b[31;1mno\x1b[0m\x07</b>  \x9b2J\u2028x\x85 a  b.vz\n"

    def say(*_: object, **__: object) -> None:
        raise vz.StorageError(said) if code == 1 else click.UsageError(said)

    monkeypatch.setattr(type(repository), "stats", say)
    line = fails(capfd, "stats", code=code)
    assert line.partition(";")[0].rstrip() == "vz: answered 500: <html> <b>no </b> x a  b.vz"


def test_a_warning_is_one_line(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*_: object, **__: object) -> str:
        warnings.warn("of two\nlines", stacklevel=2)
        return "stats"

    monkeypatch.setattr(type(repository), "stats", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        run(["stats"])
    assert capfd.readouterr().err == "vz: warning: of two lines\n"


def test_advice_is_given_in_the_words_of_the_command_line(
    repository: vz.Repository, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "; 'vz init' creates one\n" in fails(capfd, "-C", str(tmp_path / "nowhere"), "log")
    for command in ("push", "pull", "fetch"):
        line = fails(capfd, command)
        assert "no remote 'origin'" in line
        assert "add it with 'vz remote add origin URL'" in line
    other = vz.create(tmp_path / "other.vz")
    assert "overwrite it with --force-with-lease;" in fails(capfd, "push", other.url, code=3)
    line = fails(capfd, "push", other.url, "--force-with-lease")
    assert f"as --lease {other.branches['main'].cid}," in line


def test_a_url_gone_wrong_is_refused_and_shows_no_password(
    repository: vz.Repository, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    there = sorted(tmp_path.rglob("*"))
    for url in ("ipfs+http//me:s3cret@127.0.0.1:1/x", "//me:s3cret@127.0.0.1:1/x"):
        for arguments in (["-C", url, "log"], ["init", url], ["clone", ".", url], ["push", url]):
            line = fails(capfd, *arguments)
            assert "looks like a URL" in line
            assert "s3cret" not in line
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.parametrize("group", ["", "remote", "bundle", "cache"])
def test_a_group_without_a_command_shows_its_help(
    repository: vz.Repository, capfd: pytest.CaptureFixture[str], group: str
) -> None:
    words = [group] if group else []
    with pytest.raises(SystemExit) as left:
        run(words)
    out, err = capfd.readouterr()
    assert (left.value.code, out) == (2, "")
    run([*words, "--help"])
    assert err == capfd.readouterr().out


# Interrupts


def interrupted(ready: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program, interrupted once a file is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(ready), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A run of the tests in the background may ignore interrupts, and a child would inherit it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


# Waits where it is told to: in a command, or where the modules of all commands are imported.
PROGRAM = """
import pathlib, sys, time
from versioned_zarr.cli import main

ready, where, *sys.argv[1:] = sys.argv[1:]

def wait(*_, **__):
    pathlib.Path(ready).touch()
    time.sleep(60)

class Slow:
    def find_spec(self, name, *_):
        if name == "versioned_zarr.cli.history_commands":
            wait()

if where == "import":
    sys.meta_path.insert(0, Slow())
elif where == "command":
    from versioned_zarr.repository.repository import Repository
    Repository.stats = wait
else:
    from versioned_zarr.cli import serve_command as serve
    served = serve.serve_repository
    def serve_and_say(*words, on_ready, **options):
        served(*words, on_ready=lambda url: pathlib.Path(ready).touch(), **options)
    serve.serve_repository = serve_and_say
main()
"""


def test_an_interrupted_command_says_so(repository: vz.Repository, tmp_path: Path) -> None:
    done = interrupted(tmp_path / "ready", "command", "stats")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "vz: interrupted; run the command again to resume\n"


def test_an_interrupt_before_the_command_leaves_with_130(
    repository: vz.Repository, tmp_path: Path
) -> None:
    done = interrupted(tmp_path / "ready", "import", "stats")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_serving_ends_by_an_interrupt_without_a_word(
    repository: vz.Repository, tmp_path: Path
) -> None:
    pytest.importorskip("uvicorn")
    done = interrupted(tmp_path / "ready", "serve", "serve", "--port", "0")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
