"""A model of the whole version control: dicts of dicts must always say what the repository says."""

from __future__ import annotations

import gc
import shutil
import tempfile
import uuid
from abc import abstractmethod
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from obstore.store import MemoryStore

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from versioned_zarr.engine.commit import StoredValue
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import hash_function, to_text
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder

Tree = dict[str, bytes]

KEYS = st.sampled_from(
    [f"{a}/c/{b}" for a in "xyz" for b in range(4)] + ["zarr.json", "x/zarr.json", ".zattrs", "ü/ß"]
)
VALUES = st.one_of(
    st.binary(max_size=8),
    st.integers(0, 3).map(lambda n: bytes([n]) * 5000),
    st.integers(0, 2).map(lambda n: bytes([n]) * 1_100_000),
)
BRANCHES = st.sampled_from(["main", "dev", "feature/x"])


class Blocks(dict[bytes, bytes]):
    """A dict as a source of blocks."""

    def get(self, cid: bytes) -> bytes:  # type: ignore[override]  # of a dict it is the index alone
        return self[cid]


def cid_of(tree: Tree) -> str:
    """The CID of a tree built at once."""
    blocks, function = Blocks(), hash_function("sha2-256")
    empty = unixfs.directory([])
    blocks[function.dag_pb(empty)] = empty
    work: TreeBuilder[StoredValue] = TreeBuilder(Trees(blocks, function), function.dag_pb(empty))
    for key, value in tree.items():
        file = unixfs.build_file(memoryview(value), function)
        work.set(key, StoredValue(file.cid, file.tsize))
    return to_text(work.flush(lambda cid, data: None).cid)


@dataclass
class ModelCommit:
    tree: Tree
    parents: list[ModelCommit]
    message: str
    cid: str = ""

    def ancestors(self) -> list[ModelCommit]:
        found: dict[int, ModelCommit] = {}
        stack = [self]
        while stack:
            commit = stack.pop()
            if id(commit) not in found:
                found[id(commit)] = commit
                stack += commit.parents
        return list(found.values())


@dataclass
class ModelSession:
    session: vz.Session
    branch: str
    base: ModelCommit
    tree: Tree
    touched: bool = field(default=False)


DOCUMENTS = ("zarr.json", ".zattrs")


def merged(
    base: Tree, ours: Tree, theirs: Tree, *, may_agree: bool = True
) -> tuple[Tree, dict[str, set[str]]]:
    """What a three-way merge must give, and the paths in conflict with the keys that they mean."""
    result, conflicts = dict(ours), dict[str, set[str]]()
    keys = base.keys() | ours.keys() | theirs.keys()
    for document in ("zarr.json", "x/zarr.json"):
        path = document.removesuffix("zarr.json").rstrip("/")
        below = {key for key in keys if key.startswith(f"{path}/") or not path}
        is_clash = removed_and_changed(document, below, base, ours, theirs) or removed_and_changed(
            document, below, base, theirs, ours
        )
        if is_clash and "" not in conflicts:
            conflicts[path] = below
    settled = {key for keys in conflicts.values() for key in keys}
    for key in keys - settled:
        b, o, t = base.get(key), ours.get(key), theirs.get(key)
        if t != b and o == b:
            if t is None:
                result.pop(key, None)
            else:
                result[key] = t
        elif t != b and (t != o or not (may_agree or key.endswith(DOCUMENTS))):
            conflicts[key] = {key}
    return result, conflicts


def removed_and_changed(document: str, below: set[str], base: Tree, one: Tree, other: Tree) -> bool:
    """Whether one side removed a node, and the other changed something of it."""
    if document not in base or document in one:
        return False
    return any(key in other and other[key] not in (base.get(key), one.get(key)) for key in below)


class VersionControl(RuleBasedStateMachine):
    """Sessions, commits, refs, merges and housekeeping in any order."""

    url: Any = ""
    options: ClassVar[dict[str, Any]] = {}
    has_upkeep = True
    keeps_main = False

    @abstractmethod
    def make_url(self) -> Any:
        """The URL, or the store, of a place where nothing is yet."""

    @initialize()
    def create(self) -> None:
        self.url = self.make_url()
        self.repository = vz.create(self.url, **self.options)
        root = ModelCommit({}, [], "Create the repository")
        root.cid = self.repository.branches["main"].cid
        self.branches = {"main": root}
        self.tags: dict[str, ModelCommit] = {}
        self.sessions: list[ModelSession] = []

    # Sessions

    @rule(branch=BRANCHES)
    def open_session(self, branch: str) -> None:
        if branch in self.branches and len(self.sessions) < 3:
            base = self.branches[branch]
            session = self.repository.session(branch)
            self.sessions.append(ModelSession(session, branch, base, dict(base.tree)))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), key=KEYS, value=VALUES)
    def write(self, data: st.DataObject, key: str, value: bytes) -> None:
        model = data.draw(st.sampled_from(self.sessions))
        model.session.mapping[key] = value
        model.tree[key] = value
        model.touched = True

    @precondition(lambda self: any(model.tree for model in self.sessions))
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from([model for model in self.sessions if model.tree]))
        key = data.draw(st.sampled_from(sorted(model.tree)))
        del model.session.mapping[key]
        del model.tree[key]
        model.touched = True

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), folder=st.sampled_from(["", "x", "x/c"]))
    def clear(self, data: st.DataObject, folder: str) -> None:
        model = data.draw(st.sampled_from(self.sessions))
        model.session.clear(folder)
        start = f"{folder}/" if folder else ""
        for key in [key for key in model.tree if key.startswith(start)]:
            del model.tree[key]
            model.touched = True

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from(self.sessions))
        head = self.branches.get(model.branch)
        if model.tree == model.base.tree:
            with pytest.raises(vz.NothingToCommitError):
                model.session.commit("nothing")
            return
        if head is None:
            with pytest.raises(vz.RefNotFoundError):
                model.session.commit("nowhere")
            return
        tree, conflicts = merged(model.base.tree, head.tree, model.tree, may_agree=False)
        if head is model.base:
            tree, conflicts = dict(model.tree), {}
        if conflicts:
            with pytest.raises(vz.ConflictError) as caught:
                model.session.commit("in conflict")
            assert {each.path for each in caught.value.conflicts} == conflicts.keys()
            return
        commit = model.session.commit(f"commit {len(head.ancestors())}")
        new = ModelCommit(tree, [head], commit.message, commit.cid)
        self.branches[model.branch] = new
        model.base, model.tree, model.touched = new, dict(tree), False

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from(self.sessions))
        self.sessions.remove(model)
        model.session.discard()
        assert model.session.id not in self.repository.sessions

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """The process dies, and another one goes on with what its session wrote."""
        model = data.draw(st.sampled_from(self.sessions))
        listed = set(self.repository.sessions)
        if not model.touched or model.session.id not in listed:
            return
        self.repository._open_sessions.forget(model.session.id)
        model.session._working.end("died", keep_folder=True)
        model.session = self.repository.resume(model.session.id)

    # Refs and merging

    @rule(name=BRANCHES, data=st.data())
    def create_branch(self, name: str, data: st.DataObject) -> None:
        at = data.draw(st.sampled_from(sorted(self.branches)))
        if name in self.branches:
            with pytest.raises(vz.AlreadyExistsError):
                self.repository.branches.create(name, at)
        else:
            self.repository.branches.create(name, at)
            self.branches[name] = self.branches[at]

    @precondition(lambda self: len(self.branches) > 1)
    @rule(data=st.data())
    def delete_branch(self, data: st.DataObject) -> None:
        names = self.branches.keys() - ({"main"} if self.keeps_main else set())
        name = data.draw(st.sampled_from(sorted(names)))
        self.repository.branches.delete(name)
        del self.branches[name]

    @rule(name=st.sampled_from(["v1", "v2"]), data=st.data())
    def create_or_delete_tag(self, name: str, data: st.DataObject) -> None:
        if name in self.tags:
            self.repository.tags.delete(name)
            del self.tags[name]
        else:
            at = data.draw(st.sampled_from(sorted(self.branches)))
            self.repository.tags.create(name, at)
            self.tags[name] = self.branches[at]

    @precondition(lambda self: len(self.branches) > 1)
    @rule(data=st.data(), side=st.sampled_from([None, "ours", "theirs"]))
    def merge(self, data: st.DataObject, side: str | None) -> None:
        into = data.draw(st.sampled_from(sorted(self.branches)))
        source = data.draw(st.sampled_from(sorted(self.branches.keys() - {into})))
        ours, theirs = self.branches[into], self.branches[source]
        our_past = {id(commit) for commit in ours.ancestors()}
        if id(theirs) in our_past:
            assert self.repository.merge(source, into).cid == ours.cid
            return
        common = [commit for commit in theirs.ancestors() if id(commit) in our_past]
        if ours in common:
            assert self.repository.merge(source, into).cid == theirs.cid
            self.branches[into] = theirs
            return
        best = [
            commit
            for commit in common
            if not any(commit is not other and commit in other.ancestors() for other in common)
        ]
        if len(best) > 1:
            return  # the criss-cross has tests of its own
        tree, conflicts = merged(best[0].tree, ours.tree, theirs.tree)
        if conflicts and side is None:
            with pytest.raises(vz.ConflictError) as caught:
                self.repository.merge(source, into)
            assert {each.path for each in caught.value.conflicts} == conflicts.keys()
            return
        if side == "theirs":
            for key in set().union(*conflicts.values()):
                if key in theirs.tree:
                    tree[key] = theirs.tree[key]
                else:
                    tree.pop(key, None)
        commit = self.repository.merge(source, into, resolve=side)
        self.branches[into] = ModelCommit(tree, [ours, theirs], commit.message, commit.cid)

    @precondition(lambda self: any(commit.parents for commit in self.branches.values()))
    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        names = sorted(name for name, commit in self.branches.items() if commit.parents)
        name = data.draw(st.sampled_from(names))
        head = self.branches[name]
        if head.parents[0].tree == head.tree:
            with pytest.raises(vz.NothingToCommitError):
                self.repository.revert(head.cid, name)
            return
        commit = self.repository.revert(head.cid, name)
        tree = dict(head.parents[0].tree)
        self.branches[name] = ModelCommit(tree, [head], commit.message, commit.cid)

    # Housekeeping

    @rule(keep=st.sampled_from([timedelta(0), timedelta(days=30)]))
    def collect(self, keep: timedelta) -> None:
        # A session that has written nothing is known to nobody, and its base may go.
        for model in self.sessions:
            if not model.touched:
                model.session.discard()
        self.sessions = [model for model in self.sessions if model.touched]
        if self.has_upkeep:
            self.repository.gc(keep_reflog=keep)

    @rule()
    def repack(self) -> None:
        if self.has_upkeep:
            self.repository.repack()

    @rule()
    def reopen(self) -> None:
        gc.collect()
        self.repository = vz.open(self.url, verify="always")

    # What must always hold

    @invariant()
    def refs_and_contents_agree(self) -> None:
        assert set(self.repository.branches) == set(self.branches)
        assert {name: self.repository.tags[name].cid for name in self.repository.tags} == {
            name: commit.cid for name, commit in self.tags.items()
        }
        for name, commit in self.branches.items():
            snapshot = self.repository.checkout(name)
            assert snapshot.commit is not None
            assert snapshot.commit.cid == commit.cid
            assert dict(snapshot.mapping) == commit.tree
            assert snapshot.cid == cid_of(commit.tree)

    @invariant()
    def logs_agree(self) -> None:
        for name, commit in self.branches.items():
            log = [found.cid for found in self.repository.log(name)]
            assert len(log) == len(set(log))
            assert set(log) == {ancestor.cid for ancestor in commit.ancestors()}

    @invariant()
    def sessions_agree(self) -> None:
        for model in self.sessions:
            assert dict(model.session.mapping) == model.tree
            changed = {change.key for change in model.session.status()}
            keys = model.base.tree.keys() | model.tree.keys()
            assert changed == {k for k in keys if model.base.tree.get(k) != model.tree.get(k)}

    @invariant()
    def nothing_is_damaged(self) -> None:
        if self.has_upkeep:
            report = self.repository.fsck()
            assert report.is_clean, str(report)


class InMemory(VersionControl):
    def make_url(self) -> str:
        return f"memory://{uuid.uuid4()}"


class InFolder(VersionControl):
    def make_url(self) -> str:
        self.folder = tempfile.mkdtemp()
        return str(Path(self.folder) / "r.vz")

    def teardown(self) -> None:
        if self.url:
            shutil.rmtree(self.folder, ignore_errors=True)


class InSharedFolder(InFolder):
    options: ClassVar[dict[str, Any]] = {"shared": True}


class OnKubo(VersionControl):
    """On a real node, and so with fewer examples."""

    rpc = ""

    def make_url(self) -> str:
        return f"ipfs+{self.rpc}/{uuid.uuid4()}"


@pytest.mark.compat
@pytest.mark.slow
def test_the_repository_on_a_node_is_the_model(
    node: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path))
    monkeypatch.setattr(OnKubo, "rpc", node.rpc)
    run_state_machine_as_test(
        OnKubo,
        settings=settings(
            max_examples=8,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class OnLakefs(VersionControl):
    """On a real server, and so with fewer examples."""

    has_upkeep = False
    keeps_main = True  # the default branch of a lakeFS repository cannot be deleted

    def make_url(self) -> str:
        return f"lakefs://model-{uuid.uuid4().hex}"


@pytest.mark.compat
@pytest.mark.slow
@pytest.mark.usefixtures("lakefs_by_environment")
def test_the_repository_on_lakefs_is_the_model() -> None:
    run_state_machine_as_test(
        OnLakefs,
        settings=settings(
            max_examples=8,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class OnS3(VersionControl):
    """On a real server, and so with fewer examples."""

    def make_url(self) -> str:
        return f"s3://bucket/model-{uuid.uuid4().hex}"


@pytest.mark.compat
@pytest.mark.slow
@pytest.mark.usefixtures("s3_by_environment")
def test_the_repository_on_s3_is_the_model() -> None:
    run_state_machine_as_test(
        OnS3,
        settings=settings(
            max_examples=8,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


class InObjects(VersionControl):
    """On an object store in memory."""

    def make_url(self) -> Any:
        return MemoryStore()


@pytest.mark.parametrize(
    ("machine", "examples"),
    [
        (InMemory, 1),
        pytest.param(InMemory, 40, marks=pytest.mark.slow),
        pytest.param(InFolder, 40, marks=pytest.mark.slow),
        (InObjects, 1),
        pytest.param(InObjects, 40, marks=pytest.mark.slow),
        (InSharedFolder, 1),
        pytest.param(InSharedFolder, 40, marks=pytest.mark.slow),
    ],
)
def test_the_repository_is_the_model(machine: type[VersionControl], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
