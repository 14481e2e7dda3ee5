import pytest
from hypothesis import given, settings

from tests.tree.blocks import SHA2, Blocks, build, cids, leaf
from tests.tree.test_diff import LARGE, MODELS
from versioned_zarr.tree import KeyConflict, TreeBuilder, Trees, merge_keys


def merge(base, ours, theirs):
    blocks = Blocks()
    roots = [build(blocks, model).cid for model in (base, ours, theirs)]
    trees = Trees(blocks, SHA2)
    return trees, roots, merge_keys(trees, *roots)


def apply(trees, root, take):
    tree = TreeBuilder(trees, root)
    for key, link in take:
        if link is None:
            assert tree.delete(key)
        else:
            tree.set(key, link)
    return {key: link.cid for key, link in tree.walk()}


def three_way(base, ours, theirs):
    """Merge dicts key by key, whatever trees can hold; also return the keys in conflict."""
    merged, conflicts = dict(ours), set()
    for key in {*base, *ours, *theirs}:
        b, o, t = base.get(key), ours.get(key), theirs.get(key)
        if t in (b, o):
            continue
        if o != b:
            conflicts.add(key)
        elif t is None:
            del merged[key]
        else:
            merged[key] = t
    return merged, conflicts


def is_at_or_below(key, path):
    return key == path or key.startswith(f"{path}/")


@settings(max_examples=400)
@given(MODELS, MODELS, MODELS)
def test_keys_merge_as_three_dicts_do_as_far_as_a_tree_can_hold_them(base, ours, theirs):
    trees, (_, our_root, _), found = merge(base, ours, theirs)
    merged, expected = three_way(base, ours, theirs)
    paths = [conflict.key for conflict in found.conflicts]
    assert paths == sorted(paths)
    # What is taken can be applied, in the order given.
    after = apply(trees, our_root, found.take)
    # Outside of conflicts, the outcome is that of the dicts.
    for key in {*merged, *after}:
        if not any(is_at_or_below(key, path) for path in paths):
            assert after.get(key) == (merged[key].cid if key in merged else None)
    # A conflict is a key that both sides changed, or a value against a directory.
    for path in paths:
        below = [key for key in {*ours, *theirs} if key.startswith(f"{path}/")]
        assert path in expected or below
    for key in expected:
        assert any(is_at_or_below(key, path) for path in paths)
    if not paths:
        assert after == cids(merged)
    # Nothing is said twice.
    taken = [key for key, _ in found.take]
    for path in paths:
        assert not any(is_at_or_below(key, path) for key in taken)
        assert not any(path != other and is_at_or_below(other, path) for other in paths)
    assert taken == sorted(taken, key=lambda key: (dict(found.take)[key] is not None, key))


@given(MODELS, MODELS, MODELS)
def test_both_sides_see_the_same_conflicts(base, ours, theirs):
    _, _, found = merge(base, ours, theirs)
    _, _, mirrored = merge(base, theirs, ours)
    swapped = [KeyConflict(c.key, c.base, c.theirs, c.ours) for c in mirrored.conflicts]
    assert found.conflicts == swapped


def test_one_sided_changes_are_taken():
    base = {"a": leaf(0), "b": leaf(0), "d/x": leaf(0)}
    theirs = {"a": leaf(1), "c": leaf(2), "d/x": leaf(0)}
    _, _, found = merge(base, base | {"d/y": leaf(3)}, theirs)
    assert [(key, link and link.cid) for key, link in found.take] == [
        ("b", None),
        ("a", leaf(1).cid),
        ("c", leaf(2).cid),
    ]
    assert not found.conflicts


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "path"),
    [
        ({}, {"a": leaf(0)}, {"a/b": leaf(1), "a/c/d": leaf(1)}, "a"),
        ({"a/x": leaf(0)}, {"a/x": leaf(1)}, {"a": leaf(2)}, "a"),
        ({"a": leaf(0)}, {"a": leaf(1)}, {"a/b": leaf(2)}, "a"),
        ({"d/a": leaf(0)}, {"d/a/b": leaf(1)}, {"d/a": leaf(2)}, "d/a"),
        ({"a/x": leaf(0)}, {"a": leaf(1)}, {"a/x": leaf(2)}, "a"),
    ],
)
def test_a_value_against_a_directory_is_one_conflict_at_its_path(base, ours, theirs, path):
    trees, _, found = merge(base, ours, theirs)
    (conflict,) = found.conflicts
    assert conflict.key == path
    assert not found.take
    kinds = {trees.is_directory(link) for link in (conflict.ours, conflict.theirs)}
    assert kinds == {True, False}


def test_a_directory_that_one_side_turned_into_a_value_is_taken():
    base = {"a/x": leaf(0), "a/y": leaf(0), "b": leaf(0)}
    theirs = {"a": leaf(1), "b/z": leaf(2)}
    trees, (_, our_root, _), found = merge(base, base, theirs)
    assert not found.conflicts
    assert apply(trees, our_root, found.take) == cids(theirs)
    _, _, back = merge(base, theirs, base)
    assert not back.take
    assert not back.conflicts


def test_merging_costs_what_changed_on_both_sides():
    blocks = Blocks()
    models = [LARGE, LARGE | {"a/c/17": leaf("o")}, LARGE | {"a/c/18": leaf("t"), "b": leaf(0)}]
    roots = [build(blocks, model).cid for model in models]
    blocks.forget_counts()
    found = merge_keys(Trees(blocks, SHA2), *roots)
    assert [key for key, _ in found.take] == ["a/c/18", "b"]
    assert len(set(blocks.gets)) <= 3 * 5
