import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tree.blocks import SHA2, Blocks, build, leaf
from versioned_zarr.tree import KeyChange, TreeBuilder, Trees, changes

LARGE = {f"a/c/{i}": leaf(i) for i in range(6000)}


@pytest.fixture
def blocks():
    return Blocks()


def named(model):
    """The links as a tree holds them."""
    return {key: link._replace(name=key.rpartition("/")[2]) for key, link in model.items()}


def differing(old, new, prefix=""):
    old, new = named(old), named(new)
    return [
        KeyChange(key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new)
        if old.get(key) != new.get(key)
        and (not prefix or key == prefix or key.startswith(f"{prefix}/"))
    ]


def found(blocks, old, new, prefix=""):
    roots = build(blocks, old).cid, build(blocks, new).cid
    blocks.forget_counts()
    return list(changes(Trees(blocks, SHA2), *roots, prefix))


KEYS = st.lists(st.sampled_from(["a", "a-", "b"]), min_size=1, max_size=3).map("/".join)
CONTENTS = st.sampled_from([leaf(0), leaf(1), leaf(22)])


def without_clashes(model):
    """Drop keys that lie below another key's value."""
    return {
        key: link
        for key, link in model.items()
        if not any(key.startswith(f"{other}/") for other in model)
    }


MODELS = st.dictionaries(KEYS, CONTENTS, max_size=8).map(without_clashes)


@given(MODELS, MODELS, st.one_of(st.just(""), KEYS))
def test_the_changes_are_those_between_two_dicts(old, new, prefix):
    assert found(Blocks(), old, new, prefix) == differing(old, new, prefix)


@pytest.mark.slow
def test_the_changes_in_a_hamt_are_those_between_two_dicts(blocks):
    root = build(blocks, LARGE).cid
    trees = Trees(blocks, SHA2)

    @settings(max_examples=50)
    @given(st.sets(st.integers(0, 6100), max_size=4), st.sets(st.integers(0, 6100), max_size=4))
    def check(removed, changed):
        new = dict(LARGE)
        tree = TreeBuilder(trees, root)
        for i in removed:
            assert tree.delete(f"a/c/{i}") == (new.pop(f"a/c/{i}", None) is not None)
        for i in changed:
            new[f"a/c/{i}"] = leaf(-i)
            tree.set(f"a/c/{i}", leaf(-i))
        other = tree.flush(blocks.put).cid
        assert list(changes(trees, root, other)) == differing(LARGE, new)
        assert list(changes(trees, other, root)) == differing(new, LARGE)

    check()


def test_equal_trees_and_subtrees_are_not_read(blocks):
    assert found(blocks, LARGE, LARGE) == []
    assert not blocks.gets
    extra = LARGE | {"b/x": leaf(1)}
    assert found(blocks, LARGE, extra) == differing(LARGE, extra)
    assert len(blocks.gets) == 3
    assert found(blocks, LARGE, extra, "a/c") == []
    assert len(blocks.gets) == 3


def test_a_directory_that_becomes_a_hamt_is_compared_by_names(blocks):
    small = {key: LARGE[key] for key in list(LARGE)[:100]}
    assert found(blocks, small, LARGE) == differing(small, LARGE)
    assert found(blocks, LARGE, small) == differing(LARGE, small)
    assert found(blocks, LARGE, {}) == differing(LARGE, {})


def test_changes_come_before_all_blocks_are_read(blocks):
    old = {f"{i:03d}/x": leaf(0) for i in range(100)}
    new = {key: leaf(1) for key in old}
    roots = build(blocks, old).cid, build(blocks, new).cid
    blocks.forget_counts()
    first = next(changes(Trees(blocks, SHA2), *roots))
    assert first.key == "000/x"
    assert len(blocks.gets) <= 6
