import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.errors import CorruptBlockError, InvalidCidError, InvalidInputError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid, hash_function

# Printed by Kubo: `ipfs add --cid-version=1` of nothing, and of "hello\n".
EMPTY = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
HELLO = "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am"
SHA2 = hash_function("sha2-256")
KNOWN_HASHES = ["sha2-256", "blake3"]


def test_raw_cids_are_those_of_kubo():
    assert cids.to_text(SHA2.raw(b"")) == EMPTY
    assert cids.to_text(SHA2.raw(b"hello\n")) == HELLO


@pytest.mark.parametrize("name", KNOWN_HASHES)
@given(st.binary())
def test_a_cid_reads_back_from_its_text_and_matches_its_data_only(name, data):
    if name == "blake3":
        pytest.importorskip("blake3")
    hashing = hash_function(name)
    for cid, codec in [(hashing.raw(data), cids.RAW), (hashing.dag_pb(data), cids.DAG_PB)]:
        assert len(cid) == cids.CID_SIZE
        assert cids.codec(cid) == codec
        assert cids.is_raw(cid) == (codec == cids.RAW)
        assert cids.from_text(cids.to_text(cid)) == cid
        assert cids.from_text(cids.to_text(cid).upper()) == cid
        assert cids.hash_of(cid) is hashing
        assert cids.digest(cid) == hashing.digest(data)
        assert cids.matches(cid, memoryview(data))
        assert not cids.matches(cid, data + b"!")


def test_check_names_the_block_and_the_place():
    cid = SHA2.raw(b"right")
    cids.check(cid, b"right", "packs/1.car")
    with pytest.raises(CorruptBlockError, match=r"packs/1\.car") as caught:
        cids.check(cid, b"wrong", "packs/1.car")
    assert caught.value.cid == cids.to_text(cid)
    assert caught.value.where == "packs/1.car"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "bafk",
        "main",
        "not a cid",
        EMPTY[:-1],
        EMPTY + "a",
        EMPTY[:-1] + "v",  # bits beyond the last byte
        EMPTY[:-1] + "=",
        EMPTY.replace("b", "c", 1),
        "bäfkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
        "bafkqabtimvwgy3yk",  # an identity CID
        "b" + "a" * 58,
    ],
)
def test_text_that_is_no_cid_of_ours_is_refused(text):
    with pytest.raises(InvalidCidError) as caught:
        cids.from_text(text)
    assert caught.value.text == text


def test_a_cid_of_version_0_is_refused_with_the_way_out():
    with pytest.raises(InvalidCidError, match="ipfs cid base32"):
        cids.from_text("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH")


@given(st.text())
def test_any_text_is_a_cid_or_refused(text):
    try:
        cid = cids.from_text(text)
    except InvalidCidError:
        return
    assert cids.to_text(cid) == text.lower()


@given(st.binary())
def test_foreign_cids_are_looked_at_without_harm(data):
    cid = Cid(data)
    cids.is_raw(cid)
    cids.to_text(cid)
    for look in (cids.codec, cids.hash_of):
        try:
            look(cid)
        except InvalidCidError:
            continue


def test_a_cid_of_version_0_is_dag_pb():
    assert cids.codec(Cid(b"\x12\x20" + bytes(32))) == cids.DAG_PB
    assert cids.codec(Cid(b"\x01\xa9\x02\x12\x20" + bytes(32))) == 0x0129


def test_an_unknown_hash_function_names_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"'md5'.*'sha2-256' and 'blake3'"):
        hash_function("md5")


@pytest.mark.parametrize("name", KNOWN_HASHES)
def test_hash_functions_pickle_by_name(name):
    if name == "blake3":
        pytest.importorskip("blake3")
    assert pickle.loads(pickle.dumps(hash_function(name))) is hash_function(name)
