import random
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.tree.blocks import SHA2, Blocks, build, cids, contents, leaf
from versioned_zarr.errors import InvalidKeyError
from versioned_zarr.ipld import Link, unixfs
from versioned_zarr.tree import TreeBuilder, Trees, changes


class WorkTreeMachine(RuleBasedStateMachine):
    """A tree of few names, so that values and directories get in each other's way, as a dict."""

    # These names sort before, between and after the keys in a directory "a".
    names = st.lists(st.sampled_from(["a", "a-", "b", "a0"]), min_size=1, max_size=3)
    keys = names.map("/".join)
    begin_with: ClassVar[dict[str, Link]] = {}

    def __init__(self):
        super().__init__()
        self.blocks = Blocks()
        self.trees = Trees(self.blocks, SHA2, max_links=20)
        self.root = build(self.blocks, self.begin_with).cid
        self.tree = TreeBuilder(self.trees, self.root)
        self.base = dict(self.begin_with)
        self.model = dict(self.begin_with)

    def below(self, path):
        return [key for key in self.model if not path or key.startswith(f"{path}/")]

    @rule(key=keys, content=st.integers(0, 3))
    def set(self, key, content):
        above = [other for other in self.model if key.startswith(f"{other}/")]
        in_the_way = above + self.below(key)
        if not in_the_way:
            self.model[key] = leaf(content)
            self.tree.set(key, leaf(content))
            return
        if self.trees.directory(self.root).is_sharded and self.below(key):
            return  # in a HAMT, flush finds this out; see the tests below
        with pytest.raises(InvalidKeyError) as caught:
            self.tree.set(key, leaf(content))
        assert caught.value.key == key
        assert any(repr(other) in str(caught.value) for other in in_the_way)

    @rule(key=keys)
    def delete(self, key):
        assert self.tree.delete(key) == (self.model.pop(key, None) is not None)

    @rule(path=st.one_of(st.just(""), keys), source=st.one_of(st.just(""), keys))
    def copy(self, path, source):
        below = self.below(source)
        if not below:
            return
        directory, differing = self.tree.linked(source)
        copied = {key[len(source) :].lstrip("/"): self.model[key] for key in below}
        if path and (
            path in self.model or any(path.startswith(f"{other}/") for other in self.model)
        ):
            with pytest.raises(InvalidKeyError):
                self.tree.link(path, directory or self.trees.empty)
            return
        self.tree.link(path, directory or self.trees.empty)
        start = f"{path}/" if path else ""
        for key, now in differing:
            if now is None:
                assert self.tree.delete(start + key)
        for key, now in differing:
            if now is not None:
                self.tree.set(start + key, now)
        for key in self.below(path):
            del self.model[key]
        self.model.update({start + key: link for key, link in copied.items()})

    @rule(path=st.one_of(st.just(""), keys))
    def delete_prefix(self, path):
        below = self.below(path)
        assert self.tree.delete_prefix(path) == bool(below)
        for key in below:
            del self.model[key]

    @rule(path=st.one_of(st.just(""), keys))
    def look(self, path):
        below = self.below(path)
        start = len(path) + bool(path)
        assert self.tree.is_empty(path) == (not below)
        assert self.tree.list_dir(path) == sorted({key[start:].split("/")[0] for key in below})
        assert [key for key, _ in self.tree.walk(path)] == sorted(below)
        found = self.tree.get(path)
        assert (found and found.cid) == (self.model[path].cid if path in self.model else None)

    @rule()
    def flush(self):
        link = self.tree.flush(self.blocks.put)
        assert link == build(Blocks(), self.model)
        assert contents(self.trees, link.cid) == cids(self.model)
        differ = [
            (key, self.base.get(key), self.model.get(key))
            for key in sorted(self.base.keys() | self.model)
            if self.base.get(key) != self.model.get(key)
        ]
        found = [
            (key, old and old._replace(name=""), new and new._replace(name=""))
            for key, old, new in changes(self.trees, self.root, link.cid)
        ]
        assert found == differ

    @rule()
    def go_on_from_the_flushed_root(self):
        self.root = self.tree.flush(self.blocks.put).cid
        self.tree = TreeBuilder(self.trees, self.root)
        self.base = dict(self.model)

    @invariant()
    def the_changes_say_what_was_set_and_deleted(self):
        found = list(self.tree.changed())
        assert [key for key, _ in found] == sorted({key for key, _ in found})
        for key, link in found:
            assert (link and link.cid) == (self.model[key].cid if key in self.model else None)
            assert key in self.model or key in self.base
        unsaid = (self.base.keys() | self.model) - dict(found).keys()
        assert all(self.base.get(key) == self.model.get(key) for key in unsaid)

    @invariant()
    def all_keys_are_walked(self):
        walked = {key: link.cid for key, link in self.tree.walk()}
        assert walked == cids(self.model)
        assert list(walked) == sorted(walked)

    @precondition(lambda self: not self.model)
    @invariant()
    def an_empty_tree_is_the_empty_directory(self):
        link = self.tree.flush(self.blocks.put)
        assert link == Link("", self.trees.empty, 4)


WorkTreeMachine.TestCase.settings = settings(stateful_step_count=40)
TestWorkTree = WorkTreeMachine.TestCase


class ShardedWorkTreeMachine(WorkTreeMachine):
    """The same where the root is plain up to one name more, and a HAMT from two names on."""

    begin_with: ClassVar = {
        name: leaf(0) for name in [f"{i:04d}".ljust(250, "x") for i in range(885)] + ["x" * 64]
    }


ShardedWorkTreeMachine.TestCase.settings = settings(stateful_step_count=20, max_examples=25)
TestShardedWorkTree = ShardedWorkTreeMachine.TestCase


@pytest.fixture
def blocks():
    return Blocks()


@pytest.mark.parametrize("key", ["", "/a", "/b", "a/", "a//b", "a/../b", "x" * 300, None])
def test_an_impossible_key_is_refused_and_leaves_no_trace(blocks, key):
    tree = TreeBuilder(Trees(blocks, SHA2))
    tree.set("a/b", leaf(0))
    tree.set("b", leaf(0))
    with pytest.raises(InvalidKeyError):
        tree.set(key, leaf(1))
    assert [each for each, _ in tree.walk()] == ["a/b", "b"]


@pytest.mark.parametrize("key", ["", "/b", "/a/b", "a/", "a//b", "b/", "a/b/"])
def test_a_key_in_another_spelling_leads_nowhere(blocks, key):
    root = build(blocks, {"a/b": leaf(0), "b": leaf(0)}).cid
    trees = Trees(blocks, SHA2)
    tree: TreeBuilder[Link] = TreeBuilder(trees, root)
    for _ in range(2):
        assert tree.get(key) is None
        assert not tree.delete(key)
        assert not key or not tree.delete_prefix(key)
        assert trees.find(root, key) is None
        assert not key or trees.subtree(root, key) is None
        tree.set("a/c", leaf(1))
        assert tree.get(key) is None


def test_a_flush_without_changes_stores_nothing(blocks):
    link = build(blocks, {"a/b": leaf(0), "c": leaf(1)})
    trees = Trees(blocks, SHA2)
    blocks.forget_counts()
    tree = TreeBuilder(trees, link.cid)
    assert tree.flush(blocks.put) == link
    tree.set("a/b", leaf(0))
    tree.set("a/x", leaf(0))
    tree.delete("a/x")
    tree.delete_prefix("a")
    tree.set("a/b", leaf(0))
    assert tree.flush(blocks.put) == link
    assert not blocks.puts


def test_a_flush_stores_only_the_directories_on_the_way(blocks):
    link = build(blocks, {f"{a}/{b}/{c}": leaf(0) for a in "abc" for b in "abc" for c in "abc"})
    blocks.forget_counts()
    tree = TreeBuilder(Trees(blocks, SHA2), link.cid)
    tree.set("a/b/c", leaf(1))
    tree.flush(blocks.put)
    assert len(blocks.puts) == 3
    assert len(blocks.gets) == 3
    blocks.forget_counts()
    tree.flush(blocks.put)
    assert len(blocks.puts) == 3


def test_a_value_under_a_flushed_directory_may_follow_its_removal(blocks):
    trees = Trees(blocks, SHA2)
    tree = TreeBuilder(trees, build(blocks, {"a/b": leaf(0), "c": leaf(1)}).cid)
    tree.delete("a/b")
    tree.set("a", leaf(2))
    tree.delete("c")
    tree.set("c/d", leaf(3))
    assert list(tree.changed()) == [
        ("a", leaf(2)),
        ("a/b", None),
        ("c", None),
        ("c/d", leaf(3)),
    ]
    assert tree.flush(blocks.put) == build(blocks, {"a": leaf(2), "c/d": leaf(3)})


MANY = 100_000
NAMES = [f"{i // 300}.{i % 300}" for i in range(MANY)]


@pytest.fixture(scope="module")
def many():
    """A HAMT of 100,000 names, and its blocks."""
    blocks = Blocks()
    link = build(blocks, {f"a/{name}": leaf(name) for name in NAMES})
    return blocks, link.cid


def one_change(many, change, max_links=1 << 18):
    """Make one change; return how many blocks it read and stored, the four directories' own."""
    blocks, root = many
    blocks.forget_counts()
    tree = TreeBuilder(Trees(blocks, SHA2, max_links), root)
    change(tree)
    found = tree.flush(blocks.put)
    return found.cid, len(set(blocks.gets)), len(blocks.puts)


# The root, a/, and at most three shards on the way to a name.
ON_THE_WAY = 5


def test_a_changed_name_in_a_hamt_costs_the_shards_on_its_way(many):
    for name in random.Random(1).sample(NAMES, 10):
        changed = leaf("x" * len(name))
        root, gets, puts = one_change(many, lambda tree: tree.set(f"a/{name}", changed))  # noqa: B023
        assert gets <= ON_THE_WAY
        assert puts <= ON_THE_WAY
        assert Trees(many[0], SHA2).find(root, f"a/{name}").cid == changed.cid


def test_a_new_name_in_a_hamt_costs_the_shards_on_its_way(many):
    _, gets, puts = one_change(many, lambda tree: tree.set("a/new", leaf("new")))
    assert gets <= ON_THE_WAY
    assert puts <= ON_THE_WAY + 1


def test_a_deleted_name_in_a_hamt_costs_a_few_shards_more_to_count(many):
    """Two small links a shard are certain: 256 KiB of them are soon found among 100,000."""
    root, gets, puts = one_change(many, lambda tree: tree.delete(f"a/{NAMES[7]}"))
    assert gets <= ON_THE_WAY + 256 * 1024 // (45 * 2 * 100)
    assert puts <= ON_THE_WAY
    trees = Trees(many[0], SHA2)
    assert trees.find(root, f"a/{NAMES[7]}") is None
    assert [change.key for change in changes(trees, many[1], root)] == [f"a/{NAMES[7]}"]


def test_a_diff_of_one_name_in_a_hamt_reads_its_way_on_both_sides(many):
    blocks, root = many
    other, _, _ = one_change(many, lambda tree: tree.set(f"a/{NAMES[7]}", leaf("other")))
    blocks.forget_counts()
    (change,) = changes(Trees(blocks, SHA2), root, other)
    assert change.key == f"a/{NAMES[7]}"
    assert len(set(blocks.gets)) <= 2 * ON_THE_WAY


@pytest.mark.slow
def test_many_changes_in_a_hamt_read_each_shard_once(many):
    blocks, root = many
    blocks.forget_counts()
    tree = TreeBuilder(Trees(blocks, SHA2), root)
    model = {f"a/{name}": leaf(name) for name in NAMES}
    for number, key in enumerate(random.Random(2).sample(list(model), 60_000)):
        if number % 3 == 0:
            del model[key]
            tree.delete(key)
        else:
            model[key] = leaf(number)
            tree.set(key, model[key])
    model |= {f"a/new{i}": leaf(i) for i in range(20_000)}
    for i in range(20_000):
        tree.set(f"a/new{i}", leaf(i))
    found = tree.flush(blocks.put)
    assert found == build(Blocks(), model)


def test_a_value_in_place_of_a_directory_in_a_hamt_is_found_out_by_flush(blocks):
    model = {f"{i}": leaf(i) for i in range(6000)} | {"dir/key": leaf(0)}
    link = build(blocks, model)
    tree = TreeBuilder(Trees(blocks, SHA2), link.cid)
    blocks.forget_counts()
    tree.set("5", leaf("other"))
    tree.set("dir", leaf(1))
    assert len(blocks.gets) == 1
    stored = len(blocks.puts)
    with pytest.raises(InvalidKeyError, match="'dir' cannot be a key beside 'dir/key'"):
        tree.flush(blocks.put)
    assert len(blocks.puts) == stored
    tree.delete("dir")
    assert tree.flush(blocks.put) == build(Blocks(), model | {"5": leaf("other")})


def test_a_directory_in_a_hamt_gives_way_to_a_value_once_it_is_empty(blocks):
    model = {f"{i}": leaf(i) for i in range(6000)}
    link = build(blocks, model | {"one/key": leaf(0), "all/key": leaf(0)})
    tree = TreeBuilder(Trees(blocks, SHA2), link.cid)
    tree.delete("one/key")
    tree.delete_prefix("all")
    tree.set("one", leaf(1))
    tree.set("all", leaf(1))
    assert dict(tree.changed()) == {
        "all": leaf(1),
        "all/key": None,
        "one": leaf(1),
        "one/key": None,
    }
    assert tree.flush(blocks.put) == build(Blocks(), model | {"one": leaf(1), "all": leaf(1)})


def test_large_values_are_leaves_of_a_tree_too(blocks):
    file = unixfs.build_file(bytes(3 << 20), SHA2)
    blocks.by_cid.update({cid: bytes(block) for cid, block in file.blocks})
    trees = Trees(blocks, SHA2)
    tree = TreeBuilder(trees)
    tree.set("a/0", file)
    root = tree.flush(blocks.put).cid
    tree = TreeBuilder(trees, root)
    tree.set("a/1", file)
    assert tree.get("a/0") == Link("0", file.cid, file.tsize)
    assert tree.get("a/1") is file
    with pytest.raises(InvalidKeyError, match="which is a value"):
        tree.set("a/0/x", leaf(0))
    tree.set("a/0", leaf(0))
    assert [key for key, _ in trees.walk(tree.flush(blocks.put).cid)] == ["a/0", "a/1"]
