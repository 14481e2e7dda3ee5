"""The commands on an object store: options reach it, and no value of them is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.servers.versity import S3Server
from versioned_zarr.cli.app import run

pytest.importorskip("obstore")

SECRET = "sesame"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder that no repository is around."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VERSIONED_ZARR_REPO", raising=False)
    monkeypatch.chdir(tmp_path)


def arguments(option: str, server: S3Server) -> list[str]:
    """The options of a server, each as two arguments."""
    found = {**server.storage_options, "allow_http": "true"}
    return [part for name, value in found.items() for part in (option, f"{name}={value}")]


@pytest.mark.compat
def test_commands_reach_a_store_by_options(
    s3: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, remote = arguments("--storage-option", s3), arguments("--remote-option", s3)
    url, other = s3.url(), s3.url()
    run([*here, "init", url])
    run(["clone", *remote, url, "copy.vz"])
    copy = vz.open("copy.vz")
    with copy.session(message="one") as session:
        session.write("a", b"1")
    head = copy.branches["main"].cid
    run(["-C", "copy.vz", "push", *remote])
    capsys.readouterr()
    run([*here, "-C", url, "cat", "main", "a"])
    assert capsys.readouterr().out == "1"
    run([*here, "clone", *remote, url, other])
    capsys.readouterr()
    run([*here, "-C", other, "log", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["cid"] == head
    run(["-C", "copy.vz", "fetch", other, *remote])
    run(["-C", "copy.vz", "pull", other, *remote])
    assert copy.checkout("fetched/main").cid == copy.checkout().cid
    assert s3.secret_access_key not in "".join(capsys.readouterr())


@pytest.mark.compat
def test_commands_reach_a_store_by_the_environment(
    s3_by_environment: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    url = s3_by_environment.url()
    run(["init", url])
    run(["clone", url, "copy.vz"])
    run(["-C", url, "branch"])
    assert "main" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("before", [["--storage-option"], ["clone", "x", "y", "--remote-option"]])
@pytest.mark.parametrize("text", [SECRET, f"={SECRET}"])
def test_an_option_without_a_key_is_refused_unseen(
    before: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run([*before, text, "log"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"'{before[-1]}': it must have the form KEY=VALUE" in said
    assert SECRET not in said


@pytest.mark.parametrize("name", ["timeout", "skip_signature", "nonsense", "client_options"])
def test_a_value_that_is_refused_is_not_shown(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vz.create("here.vz")
    option = f"{name}={SECRET}"
    for words in (
        ["--storage-option", option, "-C", "s3://bucket/x", "log"],
        ["--storage-option", option, "init", "s3://bucket/x"],
        ["--storage-option", option, "clone", "here.vz", "s3://bucket/x"],
        ["--storage-option", option, "serve", "s3://bucket/x"],
        ["clone", "s3://bucket/x", "copy.vz", "--remote-option", option],
        ["-C", "here.vz", "push", "s3://bucket/x", "--remote-option", option],
        ["-C", "here.vz", "fetch", "s3://bucket/x", "--remote-option", option],
        ["-C", "here.vz", "pull", "s3://bucket/x", "--remote-option", option],
    ):
        with pytest.raises(SystemExit) as ended:
            run(words)
        said = "".join(capsys.readouterr())
        assert ended.value.code == 1
        assert f"cannot be opened with the storage options {name}: " in said
        assert SECRET not in said


def test_a_folder_takes_no_options(capsys: pytest.CaptureFixture[str]) -> None:
    vz.create("here.vz")
    with pytest.raises(SystemExit):
        run(["-C", "here.vz", "--storage-option", f"region={SECRET}", "log"])
    said = capsys.readouterr().err
    assert "does not accept storage_options" in said
    assert SECRET not in said


@pytest.mark.parametrize("command", [[], ["clone"], ["push"], ["fetch"], ["pull"]])
def test_the_help_says_where_credentials_belong(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run([*command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "put credentials into the environment (AWS_ACCESS_KEY_ID" in said
