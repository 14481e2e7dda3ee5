"""What a tree holds is counted from its directories, each read once."""

from hypothesis import given
from hypothesis import strategies as st

from tests.tree.blocks import SHA2, Blocks, build, leaf
from versioned_zarr.tree import Trees
from versioned_zarr.tree.totals import totals

NAMES = st.sampled_from(["a", "b", "c", "d"])
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(KEYS, st.integers(0, 3)))
def test_the_totals_are_those_of_all_keys(model: dict[str, int]) -> None:
    keys = sorted(model)
    model = {k: v for k, v in model.items() if not any(k.startswith(f"{o}/") for o in keys)}
    blocks = Blocks()
    links = {key: leaf("x" * size) for key, size in model.items()}
    root = build(blocks, links).cid
    trees = Trees(blocks, SHA2)
    blocks.forget_counts()
    counted = totals(trees, root)
    folders = {k.rsplit("/", n)[0] for k in model for n in range(1, k.count("/") + 1)}
    assert counted.keys == len(model)
    assert counted.folders == len(folders)
    assert counted.size_bytes == sum(model.values())
    assert counted.levels == max((key.count("/") + 1 for key in model), default=0)
    assert len(blocks.gets) == len(set(blocks.gets))


def test_a_sharded_directory_is_counted() -> None:
    blocks = Blocks()
    root = build(blocks, {f"c/{i}": leaf(i) for i in range(9000)}).cid
    assert totals(Trees(blocks, SHA2), root)[:2] == (9000, 1)
