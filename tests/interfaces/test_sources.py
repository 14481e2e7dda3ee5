"""Plain Zarr is imported from wherever it lies, under the names that it has there."""

from __future__ import annotations

import os
import shutil
import socket
import zipfile
from contextlib import AbstractContextManager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path, PurePath
from typing import Any

import fsspec
import pytest
import zarr

import versioned_zarr as vz
from tests.interfaces.web.served import serving
from tests.servers.threaded import threaded
from versioned_zarr.interfaces.files import sources
from versioned_zarr.interfaces.files.sources import open_source
from versioned_zarr.repository.repository import Repository

ODD = ("a b", "é", "p%20q", "x#y", "q?r", "a:b", "s&t")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "plain.zarr"
    group = zarr.create_group(str(folder))
    for name in ODD:
        group.create_array(name, shape=(2,), dtype="i4")[:] = 1
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return vz.create(tmp_path / "r.vz")


def check_import(repository: Repository, source: Any, plain: Path) -> None:
    """An import has the CID of the folder it is a copy of."""
    vz.import_zarr(repository, source, path="x")
    assert repository.checkout().path("x").cid == vz.cid_of_folder(plain)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and tells nobody."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def serving_folder(folder: Path) -> AbstractContextManager[str]:
    return threaded(partial(Quiet, directory=str(folder)))


@pytest.mark.parametrize("end", ["", "/"])
def test_a_web_server_of_files(repository: Repository, plain: Path, end: str) -> None:
    with serving_folder(plain.parent) as url:
        check_import(repository, f"{url}/plain.zarr{end}", plain)


@pytest.mark.parametrize("end", ["", "/"])
def test_what_is_served_here(repository: Repository, plain: Path, tmp_path: Path, end: str) -> None:
    shutil.copytree(plain / "é", plain / "http_data")
    served = vz.create(tmp_path / "served.vz")
    vz.import_zarr(served, plain)
    with serving(served) as port:
        check_import(repository, f"http://127.0.0.1:{port}/main{end}", plain)


def test_a_web_server_with_links_to_other_views_of_a_list(
    repository: Repository, plain: Path
) -> None:
    names = [path.name for path in plain.iterdir()]
    page = "".join(f'<a href="{name}">{name}</a>' for name in ("?C=N;O=D", "zarr.json"))
    (plain / "index.html").write_text(f'<a href="/">up</a>{page}')
    with serving_folder(plain.parent) as url:
        vz.import_zarr(repository, f"{url}/plain.zarr/")
    assert len(names) > 1
    assert list(repository.checkout().keys()) == ["zarr.json"]


def test_a_zip_file(repository: Repository, plain: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        for path in plain.rglob("*"):
            file.write(path, path.relative_to(plain))
    check_import(repository, f"zip://::{tmp_path}/z.zip", plain)


@pytest.fixture
def archives(tmp_path: Path) -> dict[str, str]:
    """URLs of a zip and a tar file that hold the same many small files."""
    folder = tmp_path / "many.zarr"
    array = zarr.create_array(str(folder), shape=(300,), chunks=(1,), dtype="i4")
    array[:] = range(1, 301)
    shutil.make_archive(str(tmp_path / "z"), "zip", folder)
    shutil.make_archive(str(tmp_path / "t"), "tar", folder)
    return {
        "zip": f"zip://::{tmp_path}/z.zip",
        "tar": f"tar://::{tmp_path}/t.tar",
        "cached": f"simplecache::zip://::{tmp_path}/z.zip",
        "folder": str(folder),
    }


@pytest.mark.parametrize("kind", ["zip", "tar", "cached"])
def test_an_archive_is_read_by_one_worker_whatever_is_said(
    repository: Repository, archives: dict[str, str], kind: str
) -> None:
    for number in range(3):
        vz.import_zarr(repository, archives[kind], path=f"x{number}", workers=16)
        assert repository.checkout().path(f"x{number}").cid == vz.cid_of_folder(archives["folder"])
    assert open_source(archives[kind], {}).is_read_by_one
    assert not open_source(archives["folder"], {}).is_read_by_one


def test_a_source_tells_how_many_files_it_has_found(
    repository: Repository, archives: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LISTED_AT_ONCE", 100)
    for kind in ("folder", "zip"):
        told: list[vz.Progress] = []
        vz.import_zarr(
            repository,
            archives[kind],
            path=kind,
            progress=told.append,
        )
        listed = [each for each in told if each.total_bytes is None]
        assert told[: len(listed)] == listed
        assert {(each.unit, each.done) for each in listed} == {("keys", 0)}
        counts = [each.total for each in listed]
        assert counts == ([100, 200, 300, 301] if kind == "folder" else [301])
        assert told[-1].done == told[-1].total == 301
        assert told[-1].done_bytes == told[-1].total_bytes


def test_listing_asks_once_for_each_file(
    archives: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `os.walk` and a stat of each file do; paths are no objects of their own."""
    made = []
    new = PurePath.__new__
    monkeypatch.setattr(
        PurePath, "__new__", lambda kind, *args, **_: made.append(args) or new(kind)
    )
    stats = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda *args, **more: stats.append(args) or stat(*args, **more))
    found = open_source(archives["folder"], {})
    folders = len(list(os.walk(archives["folder"])))
    assert len(found.sizes) == 301
    assert len(made) == 0
    assert len(stats) <= 3 * folders


def test_the_root_of_another_repository(
    repository: Repository, plain: Path, tmp_path: Path
) -> None:
    other = vz.create(tmp_path / "other.vz")
    vz.import_zarr(other, plain)
    other.tags.create("v3")
    check_import(repository, f"vzarr://v3@/::{other.url}", plain)
    (message,) = [commit.message for commit in repository.log()][:-1]
    assert message == f"Import vzarr://v3@/::{other.url}"


@pytest.mark.parametrize(
    "chain",
    [
        "http://me:s3cret@127.0.0.1:9/x",
        "http://me::s3cret@127.0.0.1:9/x",
        "zip://::http://me:s3cret@127.0.0.1:9/x",
        "simplecache::http://me:s3cret@127.0.0.1:9/x",
        "vzarr://v3@/x::ipfs+http://me:s3cret@127.0.0.1:9/x",
    ],
)
def test_a_password_is_not_shown(repository: Repository, chain: str) -> None:
    with pytest.raises(vz.VersionedZarrError) as info:
        vz.import_zarr(repository, chain)
    failure: BaseException | None = info.value
    while failure is not None:
        assert "s3cret" not in str(failure)
        failure = failure.__cause__ or failure.__context__


def test_memory(repository: Repository, plain: Path) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(plain), "/of_sources", recursive=True)
    check_import(repository, "memory://of_sources", plain)


@pytest.mark.parametrize("name", ["data:v1.zarr", "a::b.zarr", "file:x", "s3:x", "a%20b", "-x"])
def test_a_folder_whose_name_looks_like_a_url(
    repository: Repository,
    plain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    shutil.copytree(plain, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    check_import(repository, name, plain)
    with pytest.raises(vz.NothingToCommitError):
        vz.import_zarr(repository, Path(name), path="x", overwrite=True)


def test_symbolic_links_are_followed(repository: Repository, plain: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(plain, other)
    (plain / "linked").symlink_to(other)
    (plain / "a_file").symlink_to("zarr.json")
    check_import(repository, plain, plain)
    assert "x/linked/zarr.json" in repository.checkout().mapping


@pytest.mark.parametrize("target", [".", ".."])
def test_a_symbolic_link_to_where_it_lies_is_refused(
    repository: Repository, plain: Path, target: str
) -> None:
    (plain / "loop").symlink_to(target)
    for work in (partial(vz.import_zarr, repository), vz.cid_of_folder):
        with pytest.raises(vz.InvalidInputError, match="leads back to a folder"):
            work(plain)
    assert not repository.sessions


def test_a_symbolic_link_to_nothing_is_an_error_of_ours(
    repository: Repository, plain: Path
) -> None:
    (plain / "dangling").symlink_to("nowhere")
    with pytest.raises(vz.StorageError, match="dangling"):
        vz.import_zarr(repository, plain)


def test_a_server_that_cannot_be_reached_is_not_an_empty_folder(
    repository: Repository,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(vz.StorageError, match=r"cannot list .* connect"):
        vz.import_zarr(repository, f"http://127.0.0.1:{port}/x")


def test_a_broken_archive_is_an_error_of_ours(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_text("x")
    with pytest.raises(vz.StorageError, match=r"bad\.zip.*zip file"):
        vz.import_zarr(repository, f"zip://::{tmp_path}/bad.zip")
    with pytest.raises(vz.NotFoundError, match=r"nope\.zip"):
        vz.import_zarr(repository, f"zip://::{tmp_path}/nope.zip")


@pytest.mark.parametrize("name", ["/etc/x", "../x", "air/../../x"])
def test_a_zip_file_with_names_outside_is_refused(
    repository: Repository, tmp_path: Path, name: str
) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        file.writestr("zarr.json", '{"zarr_format": 3, "node_type": "group", "attributes": {}}')
        file.writestr(name, b"1")
    with pytest.raises(vz.InvalidInputError, match="leads out of the archive"):
        vz.import_from(repository, tmp_path / "z.zip")
    assert not list(repository.sessions)


@pytest.mark.parametrize("path", ["t/below", "t/c/below", "../x", "a//b", 3])
def test_a_path_where_zarr_would_not_find_it_is_refused(
    repository: Repository, plain: Path, path: Any
) -> None:
    with repository.session(message="data") as session:
        zarr.create_array(session, name="t", shape=(4,), dtype="i4")
    with pytest.raises(vz.InvalidInputError):
        vz.import_from(repository, plain, path=path)
    assert not list(repository.sessions)
