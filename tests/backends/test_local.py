"""What a folder says where something stands in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.local.local_storage import _MAPPED_FILES
from versioned_zarr.errors import StorageError, VersionedZarrError

READ: dict[str, Callable[[LocalStorage, str], object]] = {
    "view": lambda storage, path: storage.view(path),
    "read": lambda storage, path: storage.read(path),
    "open_log": lambda storage, path: storage.open_log(path),
    "adopt_draft": lambda storage, path: storage.adopt_draft(path),
    "is_claimed": lambda storage, path: storage.is_claimed(path),
    "read_draft": lambda storage, path: storage.read_draft(path),
}
WRITE: dict[str, Callable[[LocalStorage, str], object]] = {
    "put": lambda storage, path: storage.put(path, [b"x"]),
    "open_log to write": lambda storage, path: storage.open_log(path, create=True),
    "open_draft": lambda storage, path: storage.open_draft(path),
    "move": lambda storage, path: storage.move("there", path),
}


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage(tmp_path)
    made.put("there", [b"there"])
    (tmp_path / "loop").symlink_to("loop")
    return made


@pytest.mark.parametrize("act", [*READ, *WRITE])
@pytest.mark.parametrize("path", ["loop/x", "n" * 300])
def test_what_the_system_refuses_is_an_error_of_ours_with_the_path(
    storage: LocalStorage, act: str, path: str
) -> None:
    with pytest.raises(VersionedZarrError) as caught:
        {**READ, **WRITE}[act](storage, path)
    assert isinstance(caught.value, StorageError)
    assert ("there" if act == "move" else path) in str(caught.value)
    assert storage.read("there") == b"there"


@pytest.mark.parametrize("act", READ)
@pytest.mark.parametrize("path", ["nothing", "no/such/folder", "a\0b", "\ud800"])
def test_nothing_is_where_nothing_can_be(storage: LocalStorage, act: str, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        READ[act](storage, path)


@pytest.mark.parametrize("act", WRITE)
def test_below_a_file_nothing_can_be_made(storage: LocalStorage, act: str) -> None:
    with pytest.raises(StorageError, match="there"):
        WRITE[act](storage, "there/below")
    assert storage.read("there") == b"there"


def test_a_folder_is_no_file(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder"):
        storage.read("folder")


def test_a_file_is_mapped_once_and_no_more_are_than_a_process_may_have(
    storage: LocalStorage,
) -> None:
    assert storage.view("there") is storage.view("there")
    names = [f"{number}" for number in range(_MAPPED_FILES + 1)]
    for name in names:
        storage.put(name, [name.encode()], durable=False)
        assert storage.view(name) == name.encode()
    assert len(storage._maps) == _MAPPED_FILES
    first, last = (storage.view(names[at]) for at in (1, -1))
    assert storage.view(names[1]) is first
    assert storage.view(names[-1]) is last
    assert storage.view("there") == b"there"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    repository = vz.create("~/climate.vz")
    assert repository.url == (home / "climate.vz").as_uri()
    assert vz.open("~/climate.vz").url == repository.url
    repository.remotes.add("origin", "~/other.vz")
    assert repository.remotes["origin"] == (home / "other.vz").as_uri()
    vz.create(Path("~/literal.vz"))  # as of other objects of pathlib
    assert (tmp_path / "~" / "literal.vz").is_dir()
