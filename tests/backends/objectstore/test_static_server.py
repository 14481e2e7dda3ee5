"""A repository on a web server that serves files, with ranges and without lists."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.servers.threaded import threaded

pytest.importorskip("obstore")

from obstore.store import LocalStore


class Files(BaseHTTPRequestHandler):
    """The files of a folder; `asked` are the paths of all requests."""

    protocol_version = "HTTP/1.1"
    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        file = self.folder / self.path.lstrip("/")
        if not file.is_file():
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        data = file.read_bytes()
        start, end = 0, len(data)
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("range", ""))
        if wanted and not wanted[1]:
            start = max(0, end - int(wanted[2]))
        elif wanted:
            start, end = int(wanted[1]), min(end, int(wanted[2]) + 1) if wanted[2] else end
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("content-range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("content-length", str(end - start))
        self.send_header("last-modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        self.wfile.write(data[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "files", mkdir=True)


@pytest.fixture
def repository(store: LocalStore) -> vz.Repository:
    return vz.create(store)


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def url(tmp_path: Path, asked: list[str], repository: vz.Repository) -> Iterator[str]:
    del repository
    members = {"folder": tmp_path / "files", "asked": asked}
    handler: Callable[..., BaseHTTPRequestHandler] = type("Handler", (Files,), members)
    with threaded(handler) as served:
        yield served


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))


def commit(repository: vz.Repository, number: int) -> None:
    with repository.session(message=f"{number}") as session:
        session.write("a/c/0", b"%d" % number * 1000)


@pytest.mark.parametrize("commits", [1, 14, 15, 16, 17, 40])
def test_the_newest_commit_is_found_without_a_list(
    repository: vz.Repository, url: str, asked: list[str], commits: int, elsewhere: None
) -> None:
    for number in range(commits):
        commit(repository, number)
    there = vz.open(url)
    assert there.checkout().cid == repository.checkout().cid
    assert there.checkout().read("a/c/0") == b"%d" % (commits - 1) * 1000
    assert [each.message for each in there.log()] == [each.message for each in repository.log()]
    assert len(asked) < 60 + 2 * commits
    asked.clear()
    commit(repository, 100)
    assert there.checkout().read("a/c/0") == b"100" * 1000
    assert list(there.branches) == ["main"]


def test_other_branches_are_found_by_their_names(
    repository: vz.Repository, url: str, elsewhere: None
) -> None:
    commit(repository, 1)
    repository.branches.create("dev", "main")
    repository.tags.create("v1", "main")
    there = vz.open(url)
    assert there.checkout("dev").cid == there.checkout("v1").cid == repository.checkout().cid
    with pytest.raises(vz.RefNotFoundError):
        there.checkout("nothing")


def test_nothing_is_written(repository: vz.Repository, url: str, elsewhere: None) -> None:
    there = vz.open(url)
    session = there.session()
    session.write("a", b"1")
    with pytest.raises(vz.ReadOnlyError, match="is a web server, which is read-only"):
        session.commit("no")
    with pytest.raises(vz.ReadOnlyError, match="read-only"):
        there.branches.create("dev", "main")
    with pytest.raises(vz.ReadOnlyError, match="read-only"):
        vz.create(f"{url}/other")
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(f"{url}/other")
    assert list(repository.branches) == ["main"]


def test_a_repository_is_cloned_from_there(
    repository: vz.Repository, url: str, tmp_path: Path, elsewhere: None
) -> None:
    for number in range(3):
        commit(repository, number)
    copy = vz.clone(url, tmp_path / "copy.vz")
    assert copy.checkout().cid == repository.checkout().cid
    assert str(copy.fsck()).startswith("clean")
