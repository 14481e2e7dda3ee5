import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.errors import InvalidKeyError
from versioned_zarr.tree import check_key
from versioned_zarr.tree.keys import in_key_order, is_key

GOOD = [
    "zarr.json",
    ".zgroup",
    "a/.zarray",
    "a/c/0/1",
    "a/0.0",
    "...",
    ".hidden/..x/y..",
    "with space/é/温度/🌍",
    "a\nb\\c:d*?",
    "x" * 255,
    "é" * 127,
    "/".join(["x" * 255] * 10),
    "/".join("x" * 255),
]
BAD = {
    "": "empty",
    "/": "begins with '/'",
    "/a": "begins with '/'",
    "a/": "ends with '/'",
    "a//b": "empty part",
    ".": "'.'",
    "..": "'..'",
    "a/./b": "'.'",
    "../b": "'..'",
    "a/..": "'..'",
    "a\0b": "NUL",
    "x" * 256: "256 bytes",
    "a/" + "é" * 128: "256 bytes",
    "\ud800": "surrogate",
    "a/\udfff/b": "surrogate",
    "/".join("x" * 256): "256 parts",
}


@pytest.mark.parametrize("key", GOOD)
def test_a_name_that_every_folder_takes_is_a_key(key):
    check_key(key)
    assert is_key(key)


@pytest.mark.parametrize(("key", "why"), BAD.items())
def test_any_other_is_refused_and_told_why(key, why):
    with pytest.raises(InvalidKeyError, match=why) as caught:
        check_key(key)
    assert caught.value.key == key
    assert not is_key(key)


@pytest.mark.parametrize("key", [None, 5, b"a", ("a",)])
def test_what_is_no_text_is_no_key(key):
    with pytest.raises(InvalidKeyError, match="must be a string"):
        check_key(key)


@given(st.text(alphabet=st.one_of(st.sampled_from("./a\0"), st.characters())))
def test_the_short_way_and_the_long_way_agree(key):
    parts = key.split("/")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        sizes = []
    good = bool(sizes) and all(
        part not in {"", ".", ".."} and "\0" not in part and size <= 255
        for part, size in zip(parts, sizes, strict=True)
    )
    assert is_key(key) == good


@given(st.dictionaries(st.text("a-./0b", min_size=1, max_size=3), st.booleans()))
def test_what_lies_in_a_directory_comes_in_the_order_of_keys(names):
    names = {name: is_dir for name, is_dir in names.items() if "/" not in name}
    items = [(f"{name}/" if names[name] else name, None) for name in sorted(names)]
    assert list(in_key_order(items)) == sorted(items)
