"""The history of a Zarr folder in git or DVC is imported, one commit per revision."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from versioned_zarr.repository.repository import Repository

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

Change = Callable[[], None]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return vz.create(tmp_path / "r.vz")


class Work:
    """A git work tree with a Zarr folder `data/ice.zarr`."""

    def __init__(self, top: Path, *, is_dvc: bool = False, layout: str = "files/md5") -> None:
        self.top, self.folder = top, top / "data" / "ice.zarr"
        self.is_dvc, self.cache = is_dvc, top / ".dvc" / "cache" / layout
        self.folder.parent.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        if is_dvc:
            (top / ".dvc").mkdir()
            (top / ".dvc" / "config").write_text("[core]\n    remote = storage\n")
            (top / "data" / ".gitignore").write_text("/ice.zarr\n")
            (top / ".gitignore").write_text("/.dvc/cache\n")
        self.trees: list[str] = []

    def git(self, *words: str, date: str = "2020-01-01T12:00:00+01:00") -> str:
        who = {f"GIT_{kind}_{what}": value for kind in ("AUTHOR", "COMMITTER") for what, value in (
            ("NAME", "Ann Ö"), ("EMAIL", "ann@example.org"), ("DATE", date))}  # fmt: skip
        done = subprocess.run(
            ["git", *words],
            cwd=self.top,
            env={**os.environ, **who},
            capture_output=True,
            check=True,
        )
        return done.stdout.decode()

    def commit(self, message: str, date: str = "2020-01-01T12:00:00+01:00") -> None:
        if self.is_dvc:
            self.add_to_dvc()
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message, date=date)
        self.trees.append(vz.cid_of_folder(self.folder) if self.folder.exists() else "")

    def add_to_dvc(self) -> None:
        """What `dvc add` does: copy the files into the cache, and name the folder by its list."""
        listed = []
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                listed.append({
                    "md5": self.keep(path.read_bytes(), ""),
                    "relpath": path.relative_to(self.folder).as_posix(),
                })  # fmt: skip
        md5 = self.keep(json.dumps(listed).encode(), ".dir")
        text = f"outs:\n- md5: {md5}\n  nfiles: {len(listed)}\n  hash: md5\n  path: ice.zarr\n"
        (self.folder.parent / "ice.zarr.dvc").write_text(text)

    def keep(self, data: bytes, suffix: str) -> str:
        md5 = hashlib.md5(data).hexdigest() + suffix
        place = self.cache / md5[:2] / md5[2:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return md5


def tell(work: Work) -> None:
    """Four revisions of the folder, among others."""
    group = zarr.create_group(str(work.folder))
    group.create_array("a", shape=(6,), chunks=(2,), dtype="i4")[:] = np.arange(1, 7)
    work.commit("First\n\nwith a body", date="2020-02-01T00:00:00Z")
    group["a"][0] = 9
    work.commit("Second")
    (work.top / "README").write_text("x")
    work.git("add", "README")
    work.git("commit", "-q", "-m", "Not of the folder")
    group.create_array("größe", shape=(), dtype="f8")[...] = 2.5
    work.commit("Third")
    del group["a"]
    work.commit("Fourth")


@pytest.fixture(params=["git", "dvc3", "dvc2"])
def work(request: pytest.FixtureRequest, tmp_path: Path) -> Work:
    if request.param != "git":
        pytest.importorskip("yaml")
    layout = "" if request.param == "dvc2" else "files/md5"
    work = Work(tmp_path / "work", is_dvc=request.param != "git", layout=layout)
    tell(work)
    return work


def trees(repository: Repository, path: str, count: int) -> list[str]:
    """The trees of the newest commits of main, the oldest first; empty for an empty path."""
    commits = list(repository.log("main"))[:count][::-1]
    snapshots = [repository.checkout(commit) for commit in commits]
    return ["" if each.is_empty(path) else each.path(path).cid for each in snapshots]


@pytest.mark.parametrize("path", ["", "old/ice"])
def test_every_revision_becomes_a_commit(repository: Repository, work: Work, path: str) -> None:
    told: list[vz.Progress] = []
    last = vz.import_from(repository, work.folder, history=True, path=path, progress=told.append)
    assert trees(repository, path, 4) == work.trees
    assert told[-1].done == told[-1].total == 5 + 1 + 2
    assert told[-1].done_bytes == told[-1].total_bytes
    commits = list(repository.log("main"))[:4]
    assert commits[0] == last
    assert [each.message for each in commits] == [
        "Fourth",
        "Third",
        "Second",
        "First\n\nwith a body",
    ]
    assert {each.author for each in commits} == {"Ann Ö <ann@example.org>"}
    facts = commits[-1].metadata["import"]
    assert facts["time"] == "2020-02-01T00:00:00.000000Z"
    assert commits[0].metadata["import"]["revision"] == work.git("rev-parse", "HEAD").strip()
    assert not repository.sessions


def test_another_import_adds_what_is_new(repository: Repository, work: Work) -> None:
    vz.import_from(repository, work.folder, format="git")
    before = repository.branches["main"]
    assert vz.import_from(repository, work.folder, format="git") == before
    zarr.open_group(str(work.folder))["größe"][...] = 3
    work.commit("Fifth")
    shutil.rmtree(work.folder)
    if work.is_dvc:
        work.add_to_dvc()
    work.commit("Sixth")
    told: list[vz.Progress] = []
    vz.import_from(repository, work.folder, format="git", progress=told.append)
    assert trees(repository, "", 6)[:5] == work.trees[:5]
    assert repository.checkout().is_empty()
    assert told[-1].total == 1
    with repository.session(message="Mine") as session:
        session.write("mine", b"x")
    zarr.create_group(str(work.folder))
    work.commit("Seventh")
    with pytest.raises(vz.AlreadyExistsError, match="where an earlier import left it"):
        vz.import_from(repository, work.folder, format="git")


class _StopError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4, 6])
def test_an_interrupted_import_continues(repository: Repository, work: Work, after: int) -> None:
    def stop(progress: vz.Progress) -> None:
        if progress.done == after:
            raise _StopError

    with pytest.raises(_StopError):
        vz.import_from(repository, work.folder, history=True, progress=stop, workers=1)
    told: list[vz.Progress] = []
    vz.import_from(repository, work.folder, history=True, progress=told.append)
    assert trees(repository, "", 4) == work.trees
    left = next(each for each in told if each.done)  # with what the earlier attempt copied
    assert left.total is not None
    assert left.total - left.done <= 8 - after
    assert not repository.sessions


def test_a_merge_counts_as_one_revision(repository: Repository, tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    tell(work)
    work.git("checkout", "-q", "-b", "side", "HEAD~1")
    zarr.open_group(str(work.folder))["größe"][...] = 7
    work.commit("Side")
    work.git("checkout", "-q", "main")
    work.git("merge", "-q", "-m", "Merged", "side")
    vz.import_from(repository, work.folder, history=True)
    messages = [commit.message for commit in repository.log("main")][:3]
    assert messages == ["Merged", "Fourth", "Third"]
    assert repository.checkout().cid == vz.cid_of_folder(work.folder)


def test_what_the_cache_of_dvc_lacks_is_said(repository: Repository, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    work = Work(tmp_path / "work", is_dvc=True)
    tell(work)
    (tmp_path / "elsewhere").mkdir()
    work.cache.parents[1].rename(tmp_path / "elsewhere" / "cache")
    with pytest.raises(vz.InvalidInputError, match="dvc fetch --all-commits"):
        vz.import_from(repository, work.folder, history=True)
    (work.top / ".dvc" / "config.local").write_text(
        f"[cache]\n    dir = {tmp_path / 'elsewhere' / 'cache'}\n['remote \"x\"']\n    url = y\n"
    )
    vz.import_from(repository, work.folder, history=True)
    assert trees(repository, "", 4) == work.trees


def test_what_has_no_history_is_said(repository: Repository, tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "alone.zarr"))
    with pytest.raises(vz.InvalidInputError, match="in no git work tree"):
        vz.import_from(repository, tmp_path / "alone.zarr", history=True)
    work = Work(tmp_path / "work")
    tell(work)
    zarr.create_group(str(work.top / "new.zarr"))
    with pytest.raises(vz.InvalidInputError, match=r"git has no history of .*new\.zarr"):
        vz.import_from(repository, work.top / "new.zarr", history=True)


def test_the_folder_may_be_the_work_tree_and_named_as_its_dvc_file(
    repository: Repository, tmp_path: Path
) -> None:
    pytest.importorskip("yaml")
    work = Work(tmp_path / "work")
    work.folder = work.top
    zarr.create_group(str(work.top))
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "Root")
    vz.import_from(repository, work.top, history=True, path="git")
    assert list(repository.checkout().keys()) == ["git/zarr.json"]
    tracked = Work(tmp_path / "tracked", is_dvc=True)
    tell(tracked)
    vz.import_from(repository, f"{tracked.folder}.dvc", history=True, path="dvc")
    assert trees(repository, "dvc", 4) == tracked.trees


def test_values_that_are_not_in_git_are_named(repository: Repository, tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    zarr.create_group(str(work.folder))
    (work.folder / "big").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    work.commit("LFS")
    with pytest.raises(vz.InvalidInputError, match="'big' is in Git LFS"):
        vz.import_from(repository, work.folder, history=True)
    (work.folder / "big").unlink()
    (work.folder / "link").symlink_to("zarr.json")
    work.commit("Annex")
    with pytest.raises(vz.InvalidInputError, match="'link' is a symbolic link"):
        vz.import_from(repository, work.folder, history=True)


def write_revision(work: Work, when: str) -> None:
    """Write a revision as git itself would not."""
    work.git("add", "-A")
    tree = work.git("write-tree").strip()
    who = f"Ann <ann@example.org> {when}"
    text = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nodd\n"
    made = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        cwd=work.top,
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    work.git("update-ref", "refs/heads/main", made.stdout.decode().strip())


@pytest.mark.parametrize("when", ["", "-5 +0000", "1 +9999", "253402300800 +0000"])
def test_times_that_are_none_are_left_out(
    repository: Repository, tmp_path: Path, when: str
) -> None:
    work = Work(tmp_path / "work")
    zarr.create_group(work.folder)
    write_revision(work, when)
    commit = vz.import_from(repository, work.folder, history=True)
    assert commit.message == "odd"
    assert "time" not in commit.metadata["import"]


def test_messages_are_text_whatever_git_is_set_to(repository: Repository, tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    work.git("config", "i18n.logOutputEncoding", "latin1")
    zarr.create_group(work.folder)
    work.commit("Größe")
    commit = vz.import_from(repository, work.folder, history=True)
    assert (commit.message, commit.author) == ("Größe", "Ann Ö <ann@example.org>")


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ('[{"relpath": ["x"], "md5": "MD5"}]', "a list where a text"),
        ('[{"relpath": "x", "md5": null}]', "a NoneType where a text"),
        ('[{"relpath": "x", "md5": "../../../../etc/passwd"}]', "is no MD5"),
        ('[{"relpath": "../x", "md5": "MD5"}]', "special meaning"),
        ('[{"relpath": "/x", "md5": "MD5"}]', "begins with '/'"),
        ("[" * 100_000, "no list of files"),
    ],
)
def test_a_damaged_list_of_dvc_is_refused(
    repository: Repository, tmp_path: Path, listed: str, says: str
) -> None:
    pytest.importorskip("yaml")
    work = Work(tmp_path / "work", is_dvc=True)
    md5 = work.keep(b"{}", "")
    name = work.keep(listed.replace("MD5", md5).encode(), ".dir")
    (work.top / "data" / "ice.zarr.dvc").write_text(f"outs:\n- md5: {name}\n  path: ice.zarr\n")
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "hostile")
    with pytest.raises(vz.InvalidInputError, match=says):
        vz.import_from(repository, work.folder, history=True)


@pytest.mark.parametrize(
    "document", ["[" * 5000, "outs: &a\n- {md5: *a, path: ice.zarr}", "outs: 3"]
)
def test_a_damaged_file_of_dvc_is_refused(
    repository: Repository, tmp_path: Path, document: str
) -> None:
    pytest.importorskip("yaml")
    work = Work(tmp_path / "work", is_dvc=True)
    (work.top / "data" / "ice.zarr.dvc").write_text(document)
    work.git("add", "-A")
    work.git("commit", "-q", "-m", "hostile")
    with pytest.raises(vz.InvalidInputError, match="names no MD5"):
        vz.import_from(repository, work.folder, history=True)
