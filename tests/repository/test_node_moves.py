"""Moving, copying and restoring nodes: values are linked, and zarr finds what was moved."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz

NODES = ("", "air", "air/t", "air/deep", "air/deep/u", "sea", "sea/t")


@pytest.fixture(params=["memory", "folder"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> vz.Repository:
    is_folder = request.param == "folder"
    found = vz.create(tmp_path / "r.vz" if is_folder else f"memory://moves-{uuid.uuid4()}")
    with found.session(message="data") as session:
        write(session, zarr_format=3)
    return found


def write(store: Any, *, zarr_format: int) -> None:
    root = zarr.create_group(store, zarr_format=zarr_format)
    for path in ("air", "air/deep", "sea"):
        root.create_group(path)
    for number, path in enumerate(("air/t", "air/deep/u", "sea/t")):
        array = root.create_array(path, shape=(40, 40), chunks=(2, 2), dtype="i4")
        array[:] = np.arange(1600).reshape(40, 40) + number + 1


def values(view: Any) -> dict[str, bytes]:
    return {key: bytes(view.read(key)) for key in view.keys()}  # noqa: SIM118 - not a dict


def renamed(before: dict[str, bytes], old: str, new: str, *, keep: bool) -> dict[str, bytes]:
    inside = {key: value for key, value in before.items() if f"{key}/".startswith(f"{old}/")}
    rest = before if keep else {key: before[key] for key in before.keys() - inside.keys()}
    return {**rest, **{new + key[len(old) :]: value for key, value in inside.items()}}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("air/t", "temperature", "temperature"),
        ("air", "atmosphere", "atmosphere"),
        ("air", "sea", "sea/air"),
        ("/air/deep/", "deep/", "deep"),
        ("air/deep/u", "sea/u", "sea/u"),
        ("sea/t/c/0/0", "sea/t/c/90/90", "sea/t/c/90/90"),
    ],
)
def test_a_node_lies_where_it_was_moved_or_copied_to(
    repository: vz.Repository, old: str, new: str, where: str, keep: bool
) -> None:
    before = values(repository.checkout())
    session = repository.session()
    act = session.copy if keep else session.move
    assert act(old, new) == where
    want = renamed(before, old.strip("/"), where, keep=keep)
    assert values(session) == want
    session.commit("done")
    assert values(repository.checkout()) == want
    assert repository.fsck().is_clean
    if not keep and "c/0" not in old:
        assert repository.diff("main").nodes_moved == [(old.strip("/"), where)]


def test_no_value_is_read_or_written_again(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="data") as session:
        write(session, zarr_format=3)
    session = repository.session()
    session.move("air", "atmosphere")
    session.copy("atmosphere/t", "copy")
    session.restore("air", "main")
    files = list((tmp_path / "r.vz").rglob(f"*{session.id}/*"))
    sizes = {path.name: path.stat().st_size for path in files}
    assert sizes["journal"] < 1000  # 804 keys were moved, 401 copied, 804 restored
    assert sum(size for name, size in sizes.items() if name.endswith(".draft")) < 1000
    session.commit("done")
    assert zarr.open_array(repository.checkout(), path="atmosphere/t", mode="r")[1, 0] == 41


def test_uncommitted_changes_move_along(repository: vz.Repository) -> None:
    session = repository.session()
    air = zarr.open_group(session, path="air")
    air["t"][0:2, 0:2] = 99
    session.delete("air/t/c/5/5")
    session.clear("air/deep")
    air.create_array("new", shape=(2,), dtype="i4")[:] = 7
    before = values(session)
    session.move("air", "sea")
    session.copy("sea/air/new", "new")
    want = renamed(before, "air", "sea/air", keep=False)
    want = renamed(want, "sea/air/new", "new", keep=True)
    assert values(session) == want
    session.commit("done")
    assert values(repository.checkout()) == want
    assert repository.fsck().is_clean


@pytest.mark.parametrize("path", ["", "air", "air/t", "air/t/c/0/0", "air/deep"])
def test_a_node_is_restored_from_an_earlier_version(repository: vz.Repository, path: str) -> None:
    repository.tags.create("good", at="main")
    before = values(repository.checkout())
    with repository.session(message="worse") as session:
        zarr.open_array(session, path="air/t")[:] = 0
        session.clear("air/deep")
        zarr.open_group(session)["air"].create_group("more")
        zarr.open_group(session).attrs["title"] = "worse"
        session.delete("sea/t/c/0/0")
    worse = values(repository.checkout())
    with repository.session(message="restored") as session:
        session.restore(path, repository.checkout("good"))
    start = f"{path}/" if path else ""
    inside = {key for key in {*before, *worse} if f"{key}/".startswith(start)}
    want = {key: value for key, value in worse.items() if key not in inside}
    want |= {key: value for key, value in before.items() if key in inside}
    assert values(repository.checkout()) == want


def test_what_is_restored_from_another_branch_survives_its_collection(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="data") as session:
        write(session, zarr_format=3)
    repository.branches.create("other", at="main")
    with repository.session("other", message="other") as session:
        zarr.open_array(session, path="air/t")[:] = 5
    session = repository.session()
    session.restore("air/t", "other")
    repository.branches.delete("other")
    repository.gc(keep_reflog=timedelta(0))
    session.commit("restored")
    array = zarr.open_array(repository.checkout(), path="air/t", mode="r")
    assert np.all(array[:] == 5)
    assert repository.fsck(read_all=True).is_clean


def test_what_a_session_linked_survives_a_collection(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="data") as session:
        write(session, zarr_format=3)
    with repository.session(message="empty") as session:
        session.clear("air")
    session = repository.session()
    session.restore("air", "main~1")
    repository.branches.move("main", to="main")
    repository.gc(keep_reflog=timedelta(0))
    again = vz.open(tmp_path / "r.vz").resume(session.id)
    assert zarr.open_array(again, path="air/t", mode="r")[1, 0] == 41
    again.commit("restored")
    assert repository.fsck(read_all=True).is_clean


@pytest.mark.parametrize("act", ["move", "copy"])
@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("air/t", "sea/t", vz.AlreadyExistsError, "'sea/t' exists already"),
        ("air", "air/x", vz.InvalidInputError, "which it contains"),
        ("", "x", vz.InvalidInputError, "the root can be neither"),
        ("none", "x", vz.KeyNotFoundError, "nothing at 'none' on branch 'main'"),
        ("air/t", "none/t", vz.InvalidInputError, "'none' is no group"),
        ("sea", "air/t/x", vz.InvalidInputError, "would lie in the array 'air/t'"),
        ("air/t", "x//y", vz.InvalidKeyError, "x//y"),
    ],
)
def test_what_cannot_be_moved_is_refused_and_nothing_changes(
    repository: vz.Repository, act: str, old: str, new: str, error: type[Exception], says: str
) -> None:
    session = repository.session()
    before = values(session)
    with pytest.raises(error, match=says):
        getattr(session, act)(old, new)
    assert values(session) == before


def test_what_cannot_be_restored_is_refused(repository: vz.Repository) -> None:
    with repository.session(message="no air") as session:
        session.clear("air")
    session = repository.session()
    with pytest.raises(vz.KeyNotFoundError, match="nothing at 'none' in 'main'"):
        session.restore("none", "main")
    with pytest.raises(vz.InvalidInputError, match="'air' is no group"):
        session.restore("air/t", "main~1")
    with pytest.raises(vz.RefNotFoundError):
        session.restore("air", "nope")


@pytest.mark.filterwarnings("ignore:Consolidated metadata:UserWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_follows(tmp_path: Path, zarr_format: int) -> None:
    repository = vz.create(tmp_path / "r.vz")
    write(zarr.storage.LocalStore(tmp_path / "plain.zarr"), zarr_format=zarr_format)
    zarr.consolidate_metadata(str(tmp_path / "plain.zarr"))
    vz.import_zarr(repository, tmp_path / "plain.zarr")
    with repository.session(message="moved") as session:
        session.move("air", "sea/air")
        session.copy("sea/t", "copy")
    listed = consolidated(repository.checkout(), zarr_format)
    assert listed == {"sea", "sea/t", "copy", "sea/air", "sea/air/t"} | {
        "sea/air/deep",
        "sea/air/deep/u",
    }
    with repository.session(message="restored") as session:
        session.restore("", "main~1")
    assert consolidated(repository.checkout(), zarr_format) == set(NODES) - {""}


def consolidated(snapshot: vz.Snapshot, zarr_format: int) -> set[str]:
    if zarr_format == 3:
        document = json.loads(bytes(snapshot.read("zarr.json")))
        return set(document["consolidated_metadata"]["metadata"])
    keys = json.loads(bytes(snapshot.read(".zmetadata")))["metadata"]
    return {key.rpartition("/")[0] for key in keys} - {""}


def test_the_log_of_a_path_follows_its_moves(repository: vz.Repository) -> None:
    with repository.session(message="edit") as session:
        zarr.open_array(session, path="air/t")[0, 0] = 5
    with repository.session(message="rename group") as session:
        session.move("air", "atmosphere")
    with repository.session(message="elsewhere") as session:
        session.write("note", b"1")
    with repository.session(message="edit again") as session:
        zarr.open_array(session, path="atmosphere/t")[0, 0] = 6
    with repository.session(message="rename array") as session:
        session.move("atmosphere/t", "temperature")
    found = [commit.message for commit in repository.log(path="temperature")]
    assert found == ["rename array", "edit again", "rename group", "edit", "data"]
    assert [commit.message for commit in repository.log(path="sea")] == ["data"]
    between = [commit.message for commit in repository.log("main~3..main", path="temperature")]
    assert between == ["rename array", "edit again"]


def test_the_log_of_a_path_that_had_several_owners_is_in_order_and_of_the_last_one() -> None:
    repository = vz.create(f"memory://owners-{uuid.uuid4()}")
    acts: list[Any] = [
        lambda session: session.write("b/x", b"of the first"),
        lambda session: session.write("a/x", b"1"),
        lambda session: session.write("b/x", b"of the first, again"),
        lambda session: session.clear("b"),
        lambda session: session.write("a/x", b"2"),
        lambda session: session.move("a", "b"),
        lambda session: session.write("b/x", b"3"),
        lambda session: session.move("b", "a"),
        lambda session: session.write("a/x", b"4"),
    ]
    for number, act in enumerate(acts):
        with repository.session(message=str(number)) as session:
            session.write("note", str(number).encode())
            act(session)
    assert [commit.message for commit in repository.log(path="a")] == list("876541")
    assert next(iter(repository.log(path="b"))).message == "7"
    assert [commit.message for commit in repository.log("main~1", path="a")] == list("76541")


def test_the_log_of_many_moves_looks_at_each_commit_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = vz.create(f"memory://many-{uuid.uuid4()}")
    with repository.session(message="0") as session:
        session.write("p0/x", b"0")
    for number in range(60):
        with repository.session(message=f"{number + 1}") as session:
            session.move(f"p{number}", f"p{number + 1}")
    trees, looks = type(repository._stores.trees), 0
    real = trees.subtree

    def subtree(self: Any, *arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return real(self, *arguments)

    monkeypatch.setattr(trees, "subtree", subtree)
    found = [commit.message for commit in repository.log(path="p60")]
    assert found == [str(number) for number in range(60, -1, -1)]
    assert looks < 61 * 6


def test_the_log_of_a_copy_ends_where_it_was_made(repository: vz.Repository) -> None:
    with repository.session(message="copied") as session:
        session.copy("air/t", "copy")
    assert [commit.message for commit in repository.log(path="copy")] == ["copied"]


def test_moves_on_one_branch_merge_with_changes_elsewhere(repository: vz.Repository) -> None:
    repository.branches.create("dev", at="main")
    with repository.session("dev", message="rename") as session:
        session.move("air", "atmosphere")
    with repository.session(message="edit") as session:
        zarr.open_array(session, path="sea/t")[0, 0] = 5
    repository.merge("dev", into="main")
    snapshot = repository.checkout()
    assert zarr.open_array(snapshot, path="sea/t", mode="r")[0, 0] == 5
    assert zarr.open_array(snapshot, path="atmosphere/t", mode="r")[1, 0] == 41
    assert snapshot.is_empty("air")


def test_a_commit_on_a_branch_that_moved_merges_a_move(repository: vz.Repository) -> None:
    session = repository.session()
    session.move("air", "atmosphere")
    with repository.session(message="edit") as other:
        zarr.open_array(other, path="sea/t")[0, 0] = 5
    session.commit("rename")
    snapshot = repository.checkout()
    assert zarr.open_array(snapshot, path="sea/t", mode="r")[0, 0] == 5
    assert sorted(snapshot.list_dir()) == ["atmosphere", "sea", "zarr.json"]


def test_paths_that_are_no_text_or_names_of_documents_are_refused(
    repository: vz.Repository,
) -> None:
    session = repository.session()
    for act, arguments in (
        (session.move, (3, "new")),
        (session.copy, ("air", None)),
        (session.restore, (None, "main")),
        (session.move, ("air", ".zgroup")),
        (session.move, ("air", "sea/.zattrs")),
    ):
        with pytest.raises(vz.InvalidInputError):
            act(*arguments)  # type: ignore[operator]
    assert not session.status()


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("act", ["move", "copy", "restore"])
@pytest.mark.parametrize("key", ["air/t", "air/new", "new/t", "single", "new"])
def test_what_another_process_writes_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, act: str, *, is_before: bool
) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="data") as session:
        session.write("air/t", b"one")
        session.write("single", b"one")
    session = repository.session()
    session._working.share()
    other = vz.open(tmp_path / "r.vz", verify="always").resume(session.id)  # as in a process
    old = "single" if key in ("single", "new") else "air"
    real = type(session._working).link

    def link(self: Any, *arguments: Any) -> None:
        if is_before:
            other.write(key, b"of another")
        real(self, *arguments)
        if not is_before:
            other.write(key, b"of another")

    monkeypatch.setattr(type(session._working), "link", link)
    with suppress(vz.InvalidKeyError):  # the other process came first
        session.restore(old, "main") if act == "restore" else getattr(session, act)(old, "new")
    monkeypatch.undo()
    left = session.get(key)
    if left is None or bytes(left) != b"of another":
        with pytest.raises(vz.ConflictError, match=key):
            session.commit("done")


def steps(seed: int) -> Iterator[tuple[str, str, str]]:
    drawn = random.Random(seed)
    for number in range(12):
        act = drawn.choice(["move", "copy", "restore", "write", "delete", "commit", "clear"])
        paths = ["air", "air/t", "air/deep", "sea", "sea/t", "x0", "x1", "x2", "sea/x"]
        yield act, drawn.choice(paths), f"{drawn.choice(['', 'sea/', 'air/'])}x{number % 4}"


@pytest.mark.parametrize("seed", range(12))
def test_a_session_comes_to_what_a_plain_dict_comes_to(tmp_path: Path, seed: int) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="data") as session:
        write(session, zarr_format=3)
    session = repository.session()
    first = model = values(session)
    for act, path, new in steps(seed):
        below = {key for key in model if f"{key}/".startswith(f"{path}/")}
        try:
            if act in ("move", "copy"):
                where = getattr(session, act)(path, new)
                model = renamed(model, path, where, keep=act == "copy")
            elif act == "restore":
                session.restore(path, "main~0" if seed % 2 else repository.log()[-1])
                if seed % 2 == 0:
                    rest = {key: model[key] for key in model.keys() - below}
                    inside = {k: v for k, v in first.items() if f"{k}/".startswith(f"{path}/")}
                    model = {**rest, **inside}
                else:
                    model = values(session)
            elif act == "write" and below:
                key = min(below)
                session.write(key, new.encode())
                model = {**model, key: new.encode()}
            elif act == "delete" and below:
                session.delete(max(below))
                model = {key: model[key] for key in model.keys() - {max(below)}}
            elif act == "clear":
                session.clear(path)
                model = {key: model[key] for key in model.keys() - below}
            elif act == "commit":
                session.commit("step", allow_empty=True)
        except (vz.AlreadyExistsError, vz.InvalidInputError, vz.KeyNotFoundError):
            pass
        assert values(session) == model, act
        resumed = vz.open(tmp_path / "r.vz").resume(session.id) if session._working.exists else None
        assert resumed is None or values(resumed) == model
    session.commit("end", allow_empty=True)
    assert values(repository.checkout()) == model
    assert repository.fsck(read_all=True).is_clean
