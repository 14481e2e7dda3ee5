"""A shared folder creates each name once, whole and durable, whatever the file system answers."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from versioned_zarr.backends.sharedfolder import folder_calls
from versioned_zarr.backends.sharedfolder.shared_folder_storage import SharedFolderStorage
from versioned_zarr.backends.sharedfolder.whole_files import INNER

LINKS = ("with links", "without links")
RECORD = "refs/heads/main/9223372036854775807"


def refuse(number: int) -> Callable[..., Any]:
    def call(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture
def files(tmp_path: Path) -> SharedFolderStorage:
    return SharedFolderStorage(tmp_path / "r.vz", "file:///r.vz")


@pytest.fixture(params=LINKS)
def either(
    request: pytest.FixtureRequest, files: SharedFolderStorage, monkeypatch: pytest.MonkeyPatch
) -> SharedFolderStorage:
    if request.param != LINKS[0]:
        monkeypatch.setattr(folder_calls, "link", refuse(errno.EOPNOTSUPP))
    return files


def left(files: SharedFolderStorage) -> list[str]:
    """Temporary files and folders."""
    names = [name for _, folders, found in os.walk(files.folder) for name in (*folders, *found)]
    return [name for name in names if name[0] == "." and name != INNER]


def test_what_was_created_is_read_and_created_once(either: SharedFolderStorage) -> None:
    either.create(RECORD, b"first")
    with pytest.raises(FileExistsError):
        either.create(RECORD, b"second")
    assert bytes(either.read(RECORD)) == b"first"
    assert bytes(either.read(RECORD, -3)) == b"rst"
    assert bytes(either.read(RECORD, 1, 3)) == b"ir"
    assert [(each.path, each.size) for each in either.list("refs")] == [(RECORD, 5)]
    found = either.first("refs/heads/main")
    assert found is not None
    assert found.path == RECORD
    assert either.folders("refs/heads") == ["main"]
    assert left(either) == []


def test_what_was_created_is_replaced_and_deleted(either: SharedFolderStorage) -> None:
    either.create(RECORD, b"first")
    either.put(RECORD, [b"forgotten", b"\n"])
    assert bytes(either.read(RECORD)) == b"forgotten\n"
    with pytest.raises(FileExistsError):
        either.create(RECORD, b"second")
    either.delete(RECORD)
    with pytest.raises(FileNotFoundError):
        either.read(RECORD)
    either.create(RECORD, b"again")
    assert bytes(either.read(RECORD)) == b"again"


def test_a_file_and_a_folder_exclude_each_other(
    files: SharedFolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.create("a", b"by link")
    with monkeypatch.context() as patched:
        patched.setattr(folder_calls, "link", refuse(errno.EPERM))
        other = SharedFolderStorage(files.folder, files.url)
        with pytest.raises(FileExistsError):
            other.create("a", b"by rename")
        other.create("b", b"by rename")
    with pytest.raises(FileExistsError):
        files.create("b", b"by link")
    assert [bytes(files.read(name)) for name in "ab"] == [b"by link", b"by rename"]
    assert left(files) == []


def test_of_many_creators_one_wins_and_readers_see_it_whole(either: SharedFolderStorage) -> None:
    wins: list[int] = []
    seen: list[bytes] = []
    start = threading.Barrier(9)

    def create(number: int) -> None:
        start.wait(60)
        for turn in range(40):
            try:
                either.create(f"d/{turn}", bytes([number]) * 300_000)
            except FileExistsError:
                continue
            wins.append(turn)

    def look() -> None:
        start.wait(60)
        turn = 0
        while turn < 40:
            try:
                seen.append(bytes(either.read(f"d/{turn}")))
            except FileNotFoundError:
                continue
            turn += 1

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    threads.append(threading.Thread(target=look))
    for each in threads:
        each.start()
    for each in threads:
        each.join(300)
    assert sorted(wins) == list(range(40))
    assert len(seen) == 40
    assert all(len(data) == 300_000 and len(set(data)) == 1 for data in seen)
    assert left(either) == []


def test_a_link_whose_answer_was_lost_is_recognized(
    files: SharedFolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = folder_calls.link

    def repeated(source: str, target: str) -> None:
        link(source, target)
        link(source, target)  # NFS repeats the request, and the server says that it exists

    monkeypatch.setattr(folder_calls, "link", repeated)
    files.create("a", b"mine")
    assert bytes(files.read("a")) == b"mine"
    with pytest.raises(FileExistsError):
        files.create("a", b"other")
    assert left(files) == []


def test_a_folder_whose_rename_lost_its_answer_exists(
    files: SharedFolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = folder_calls.rename_folder

    def repeated(source: str, target: str) -> None:
        rename(source, target)
        rename(source, target)

    monkeypatch.setattr(folder_calls, "link", refuse(errno.EPERM))
    monkeypatch.setattr(folder_calls, "rename_folder", repeated)
    with pytest.raises(FileExistsError):  # the caller compares what is there with its own
        files.create("a", b"mine")
    assert bytes(files.read("a")) == b"mine"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_folder_that_cannot_be_synced_is_no_error(
    files: SharedFolderStorage, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    from versioned_zarr.backends.local import system

    monkeypatch.setattr(system, "sync_names", refuse(number))
    files.create("a", b"1")
    files.put("b", [b"2"])
    assert [each.path for each in files.list("")] == ["a", "b"]


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, vz.StorageFullError),
        (errno.EDQUOT, vz.StorageFullError),
        (errno.EROFS, vz.ReadOnlyError),
        (errno.EACCES, vz.ReadOnlyError),
        (errno.EIO, vz.StorageError),
        (errno.EFBIG, vz.StorageError),
    ],
)
@pytest.mark.parametrize("call", ["open_new", "sync_file", "replace", "link"])
def test_a_refused_write_says_what_where_and_leaves_nothing(
    files: SharedFolderStorage,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
    call: str,
) -> None:
    files.put("d/a", [b"old"])
    with monkeypatch.context() as patched:
        patched.setattr(folder_calls, call, refuse(number))
        if call != "link":
            with pytest.raises(error, match="d/a"):
                files.put("d/a", [b"new"])
        if call != "replace":
            with pytest.raises(error, match="d/b"):
                files.create("d/b", b"new")
    assert [each.path for each in files.list("")] == ["d/a"]
    assert bytes(files.read("d/a")) == b"old"
    assert left(files) == []


def test_a_stale_handle_is_looked_up_again(
    files: SharedFolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put("packs/a", [b"old"])
    assert bytes(files.read("packs/a", 0, 3)) == b"old"
    from versioned_zarr.backends.local import system

    read_at, stale = system.read_at, [True]

    def once(fd: int, size: int, offset: int) -> bytes:
        if stale.pop() if stale else False:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read_at(fd, size, offset)

    monkeypatch.setattr(system, "read_at", once)
    assert bytes(files.read("packs/a", 0, 3)) == b"old"
    monkeypatch.setattr(folder_calls, "open_for_reading", refuse(errno.ESTALE))
    with pytest.raises(vz.StorageError, match="stale handle"):
        files.read("b")


def test_a_name_that_is_remembered_as_missing_is_found_by_looking_at_the_folder(
    files: SharedFolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that remembers for ever that a name was missing, until its folder is opened."""
    opened, revisit = folder_calls.open_for_reading, folder_calls.revisit
    missing: set[str] = set()

    def open_remembered(path: str) -> int:
        if path in missing:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        try:
            return opened(path)
        except FileNotFoundError:
            missing.add(path)
            raise

    def forget(folder: str) -> None:
        revisit(folder)
        missing.difference_update([path for path in missing if path.startswith(folder)])

    monkeypatch.setattr(folder_calls, "open_for_reading", open_remembered)
    monkeypatch.setattr(folder_calls, "revisit", forget)
    with pytest.raises(FileNotFoundError):
        files.read(RECORD)
    SharedFolderStorage(files.folder, files.url).create(RECORD, b"1")
    assert missing
    assert bytes(files.read(RECORD)) == b"1"


def test_what_killed_writers_left_is_hidden_and_swept_after_a_day(
    files: SharedFolderStorage,
) -> None:
    files.put("packs/a", [b"1"])
    folder = Path(files.folder, "packs")
    (folder / ".a.0123abcd").write_bytes(b"1")
    (folder / ".young.0123abcd").write_bytes(b"1")
    (folder / ".b.0123abcd").mkdir()
    (folder / ".b.0123abcd" / INNER).write_bytes(b"1")
    (folder / ".other").write_bytes(b"1")
    for name in (".a.0123abcd", ".b.0123abcd", ".other"):
        os.utime(folder / name, (0, 0))
    assert [each.path for each in files.list("")] == ["packs/a"]
    assert files.folders("packs") == []
    files.sweep()
    assert sorted(os.listdir(folder)) == [".other", ".young.0123abcd", "a"]


@pytest.mark.parametrize("path", ["../a", "a//b", "/a", "a/../../b", ".a", "a/.b", "a\0", "c:a"])
def test_no_path_leads_out_of_the_folder(files: SharedFolderStorage, path: str) -> None:
    for act in (
        lambda: files.read(path),
        lambda: files.put(path, [b"1"]),
        lambda: files.create(path, b"1"),
        lambda: files.delete(path),
        lambda: files.list(path),
    ):
        with pytest.raises(vz.StorageError, match="no path of an object"):
            act()


def test_a_list_is_renewed_by_a_change_of_this_machine(
    files: SharedFolderStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put("condemned/a", [b"1"])
    calls: list[str] = []
    for name in ("open_new", "unlink"):
        call = getattr(folder_calls, name)
        monkeypatch.setattr(
            folder_calls,
            name,
            lambda path, name=name, call=call: (calls.append(f"{name} {path}"), call(path))[1],
        )
    assert files.renew("condemned")
    start = os.path.join(files.folder, "condemned", ".")
    assert [call.split()[0] for call in calls] == ["open_new", "unlink"]
    assert all(call.split()[1].startswith(start) for call in calls)
    assert [each.path for each in files.list("condemned")] == ["condemned/a"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_folders_and_files_have_the_permissions_of_the_root(files: SharedFolderStorage) -> None:
    os.mkdir(files.folder)
    os.chmod(files.folder, 0o2775)
    before = os.umask(0o077)
    try:
        files.put("packs/a", [b"1"])
        files.create(RECORD, b"1")
    finally:
        os.umask(before)
    for path in ("packs", "refs", "refs/heads", "refs/heads/main"):
        found = os.stat(os.path.join(files.folder, path)).st_mode
        assert stat.S_IMODE(found) & 0o775 == 0o775
    for path in ("packs/a", RECORD):
        assert os.stat(os.path.join(files.folder, path)).st_mode & 0o444 == 0o444


COUNTED = ("open_new", "sync_file", "sync_folder", "link", "replace", "rename_folder")


def test_a_commit_costs_few_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = vz.create(tmp_path / "r.vz", shared=True)
    with repo.session(message="first") as session:
        session.write("a", b"1")
    session = repo.session()
    session.write("a", b"2" * 5000)
    made: Counter[str] = Counter()
    for name in COUNTED:
        call = getattr(folder_calls, name)
        monkeypatch.setattr(
            folder_calls,
            name,
            lambda *given, name=name, call=call: (made.update([name]), call(*given))[1],
        )
    session.commit("second")
    assert made == {"open_new": 2, "sync_file": 2, "sync_folder": 2, "link": 1, "replace": 1}


def test_a_large_draft_is_not_copied_on_the_same_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {f"a/c/{n}": os.urandom(3 << 20) for n in range(15)}
    repo = vz.create(tmp_path / "r.vz", shared=True)
    written: list[int] = []
    from versioned_zarr.backends.sharedfolder import whole_files

    write_all = whole_files.write_all

    def noted(fd: int, parts: Any, offset: int) -> None:
        written.append(sum(map(len, parts)))
        write_all(fd, parts, offset)

    monkeypatch.setattr(whole_files, "write_all", noted)
    with repo.session(message="many") as session:
        for key, value in values.items():
            session.write(key, value)
    assert sum(written) < 1 << 20
    assert dict(repo.checkout().mapping) == values
    assert repo.fsck(read_all=True).is_clean


def test_a_large_draft_is_copied_from_another_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EXDEV))
    values = {f"a/c/{n}": os.urandom(3 << 20) for n in range(15)}
    repo = vz.create(tmp_path / "r.vz", shared=True)
    with repo.session(message="many") as session:
        for key, value in values.items():
            session.write(key, value)
    assert dict(repo.checkout().mapping) == values
    assert repo.fsck(read_all=True).is_clean
