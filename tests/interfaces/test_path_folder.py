"""A folder that is opened by its path, as on Windows, is not left."""

from __future__ import annotations

from pathlib import Path

import pytest

from versioned_zarr.interfaces.files.path_folder import open_folder

OUTSIDE = ("..", ".", r"..\x", "C:x", "C:", r"\\host\share", "a/b", "/a")
DEVICES = ("nul", "CON", "com1.txt", "LPT\N{SUPERSCRIPT ONE}", "aux .x")
OTHER = ("a.", "a ", "a:stream", "a?", "a*", "<a>", "a|b", 'a"', "a\n", "a\0")


@pytest.mark.parametrize("name", OUTSIDE + DEVICES + OTHER)
def test_what_windows_takes_for_something_else_is_no_name(tmp_path: Path, name: str) -> None:
    folder = open_folder(str(tmp_path / "out" / ".."))
    with pytest.raises(OSError, match="no name of a file here"):
        folder.new_file(name)
    with pytest.raises(OSError, match="no name of a file here"):
        folder.folder(name, make=True)
    assert list(tmp_path.iterdir()) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"1")
    (tmp_path / "in" / "folder").symlink_to(tmp_path)
    (tmp_path / "in" / "file").symlink_to(tmp_path / "secret")
    folder = open_folder(str(tmp_path / "in"))
    with pytest.raises(OSError, match="symbolic links"):
        folder.folder("folder", make=True)
    with pytest.raises(OSError, match="symbolic links"):
        folder.open_file("file")
    with pytest.raises(FileExistsError):
        folder.new_file("file")
    assert (tmp_path / "secret").read_bytes() == b"1"


def test_names_that_only_look_like_devices_are_names(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    for name in (
        "console",
        "nul0",
        "com",
        "com10",
        ".zgroup",
        "0.0",
        "zarr.json",
        "c\N{DIGIT ONE}",
    ):
        with folder.new_file(name) as file:
            file.write(b"1")
        with folder.open_file(name) as file:
            assert file.read() == b"1"
