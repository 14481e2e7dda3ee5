"""Where a repository is said to be: texts that name no place, and what is left of a refusal."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.repository.test_errors import OPENERS

UNUSED = "ipfs+http://me:s3cret@127.0.0.1:1/x"
GONE_WRONG = [
    "ipfs+http//me:s3cret@127.0.0.1:1/x",
    "//me:s3cret@127.0.0.1:1/x",
    " //me:s3/cret@127.0.0.1:1/x",
    "a//me:s3cret@127.0.0.1:1/x",
    f"<{UNUSED}>",
    f"\ufeff{UNUSED}",
    "http//127.0.0.1:1/x",
    "S3//bucket/x",
]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vz.Repository:
    """A repository, in a folder that has nothing else and that we are in."""
    repository = vz.create(tmp_path / "r.vz")
    monkeypatch.chdir(tmp_path)
    return repository


CALLS: dict[str, Callable[[vz.Repository, str], object]] = {
    "open": lambda repo, url: vz.open(url),
    "create": lambda repo, url: vz.create(url),
    "open_or_create": lambda repo, url: vz.open_or_create(url),
    "clone from": lambda repo, url: vz.clone(url, "copy.vz"),
    "clone to": lambda repo, url: vz.clone(repo.url, url),
    "push": lambda repo, url: repo.push(url),
    "fetch": lambda repo, url: repo.fetch(url),
    "pull": lambda repo, url: repo.pull(url),
    "remotes.add": lambda repo, url: repo.remotes.add("there", url),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("url", GONE_WRONG)
def test_a_url_gone_wrong_is_no_path(repository: vz.Repository, call: str, url: str) -> None:
    with pytest.raises(vz.InvalidUrlError, match=r"looks like a URL.*\./") as caught:
        CALLS[call](repository, url)
    assert "cret" not in f"{caught.value}{caught.value.url}"
    assert os.listdir() == ["r.vz"]
    assert dict(repository.remotes) == {}


@pytest.mark.parametrize("call", ["create", "clone to", "remotes.add"])
def test_space_around_a_url_is_no_part_of_it(repository: vz.Repository, call: str) -> None:
    try:
        CALLS[call](repository, f" {UNUSED}\n")
    except (vz.StorageError, vz.InvalidUrlError) as error:
        assert "s3cret" not in str(error)  # noqa: PT017 - which of the two, the call decides
    assert os.listdir() == ["r.vz"]
    assert dict(repository.remotes) == {}


def test_space_around_a_url_is_left_out(repository: vz.Repository) -> None:
    url = f"memory://{uuid.uuid4()}"
    assert vz.create(f" {url}\n").url == url
    repository.remotes.add("there", f"\t{url} ")
    assert dict(repository.remotes) == {"there": url}
    assert [move.name for move in repository.fetch(f" {url}").moves] == ["there/main"]


@pytest.mark.parametrize(
    "path", [" a folder ", "a//b", "./http//b", "./a//me:word@b", Path(" memory:x"), Path("s3")]
)
def test_a_path_stays_as_it_was_written(repository: vz.Repository, path: Any) -> None:
    assert vz.create(path) is vz.open(Path(path).absolute())
    assert Path(path).is_dir()


def test_a_folder_that_is_there_is_no_url_gone_wrong(repository: vz.Repository) -> None:
    for path in ("http/x", "a/me:word@b"):
        vz.create(f"./{path}")
        assert vz.open(path.replace("/", "//")) is vz.open(path)


def test_a_multiaddr_that_is_no_gateway_shows_no_password() -> None:
    for gateway in (
        "ipfs+/ip4/me:s3cret@127.0.0.1/tcp/1/x",
        "/ip4/me:s3cret@127.0.0.1/tcp/1",
        " /ip4/me:s3cret@127.0.0.1/tcp/1",
        "me:s3cret@127.0.0.1:1",
        "http//me:s3cret@127.0.0.1:1",
    ):
        with pytest.raises(vz.InvalidUrlError) as caught:
            vz.open_snapshot("bafkqaaa", gateways=[gateway])
        assert "s3cret" not in f"{caught.value}{caught.value.url}"


@pytest.mark.parametrize("call", CALLS)
def test_a_path_that_is_no_text_is_refused(repository: vz.Repository, call: str) -> None:
    for text in ("c/\ud800", "c/\0"):
        with pytest.raises(vz.InvalidUrlError, match=r"Unicode text|NUL"):
            CALLS[call](repository, text)


@pytest.mark.parametrize("id", ["\0", "\ud800", "a\0b"])
def test_a_session_that_no_file_could_hold_is_not_found(repository: vz.Repository, id: str) -> None:
    sessions = repository.sessions
    for call in (repository.resume, sessions.delete, sessions.__getitem__):
        with pytest.raises(vz.SessionNotFoundError):
            call(id)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc, as Linux has it")
def test_a_folder_that_cannot_be_made_is_named() -> None:
    for call in (vz.create, vz.open_or_create):
        with pytest.raises(vz.StorageError, match="/proc/no-repository"):
            call("/proc/no-repository")


# Remotes


@pytest.mark.parametrize("call", ["push", "fetch", "pull"])
def test_a_word_that_is_no_remote_is_named(repository: vz.Repository, call: str) -> None:
    repository.remotes.add("upstream", "memory://upstream")
    with pytest.raises(vz.RepositoryNotFoundError) as caught:
        getattr(repository, call)("origin")
    for part in ("no remote 'origin'", "'upstream'", "remotes.add('origin', URL)", "path or URL"):
        assert part in str(caught.value)
    with pytest.raises(vz.RepositoryNotFoundError, match="no repository at"):
        getattr(repository, call)("./origin")
    vz.clone(repository.url, "origin")
    assert getattr(repository, call)("origin")


# What is left of a refusal


def test_nothing_is_left_in_a_folder_that_was_refused(
    repository: vz.Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "data.txt").write_text("mine")
    for refuse in (
        lambda: vz.create(folder),
        lambda: vz.open_or_create(folder),
        lambda: vz.clone(repository.url, folder),
    ):
        with pytest.raises(vz.AlreadyExistsError, match="not empty"):
            refuse()
        assert [path.name for path in folder.iterdir()] == ["data.txt"]


def test_nothing_is_left_of_a_clone_of_refs_that_are_not_there(repository: vz.Repository) -> None:
    repository.tags.create("v1")
    refusals: list[tuple[Any, type[Exception], str]] = [
        ("nope", vz.RefNotFoundError, "no branch or tag 'nope'.*'main'"),
        (["main", "nope"], vz.RefNotFoundError, "no branch or tag 'nope'"),
        ("v1", vz.InvalidRefError, "names none"),
        ([], vz.InvalidRefError, "names none"),
        ("a b", vz.InvalidRefError, "a b"),
    ]
    for refs, kind, says in refusals:
        with pytest.raises(kind, match=says):
            vz.clone(repository.url, "copy.vz", refs=refs)
        assert os.listdir() == ["r.vz"]
    copy = vz.clone(repository.url, "copy.vz", refs=["heads/main", "tags/v1"])
    assert [*copy.branches, *copy.tags] == ["main", "v1"]


@pytest.mark.parametrize("opener", OPENERS)
def test_a_place_that_is_bytes_is_refused(opener: Callable[[Any], object]) -> None:
    with pytest.raises(vz.InvalidUrlError):
        opener(b" memory://x")
