"""What people paste leads to the CID that they mean, whatever form it has."""

from __future__ import annotations

import hashlib
import sys

import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.errors import (
    InvalidCidError,
    InvalidInputError,
    InvalidUrlError,
    MissingDependencyError,
)
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.address.ipfs_address import read_any_cid, read_cid, read_pasted
from versioned_zarr.ipld.cid import Cid

DIGEST = hashlib.sha256(b"x").digest()
TREE = Cid(b"\x01\x70\x12\x20" + DIGEST)
V1 = cids.to_text(TREE)
BASES = [
    base.name
    for base in multiformats.multibase.table()
    if multiformats.multibase.raw.exists(base.name) and base.name not in {"identity", "proquint"}
]
V0 = multiformats.CID("base58btc", 0, "dag-pb", ("sha2-256", DIGEST)).encode()


@pytest.mark.parametrize(
    ("text", "path", "gateway"),
    [
        (f"ipfs://{V1}", "", None),
        (f"ipfs://{V1}/a/b%20c/", "a/b c", None),
        (f"ipfs://{V0}/a", "a", None),
        (f"ipfs:{V1}/a", "a", None),
        (f"ipfs:///ipfs/{V1}/a", "a", None),
        (V1, "", None),
        (V0, "", None),
        (f" {V1}/a/b\n", "a/b", None),
        (f"/ipfs/{V1}", "", None),
        (f"/ipfs/{V0}/a%20b", "a%20b", None),
        (f"https://gw.example/ipfs/{V1}/a%2520", "a%20", "https://gw.example"),
        (f"http://127.0.0.1:8080/ipfs/{V0}?filename=x#y", "", "http://127.0.0.1:8080"),
        (f"https://gw.example/below/ipfs/{V1}/ipfs/x", "ipfs/x", "https://gw.example/below"),
        (f"https://{V1}.ipfs.gw.example:8443/a?x=y", "a", "https://gw.example:8443"),
    ],
)
def test_every_form_of_address_is_read(text, path, gateway):
    found = read_pasted(text)
    assert found == (TREE, path, gateway)
    assert found.url == f"ipfs://{V1}" + (f"/{path}" if path else "")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "https://example.org/x", "s3://bucket/x", "ipfs://", "/ipfs/", "ipfs://x", "Qm",
        f"ipfs://{V1}/a/../b", f"ipfs://{V1}/a//b", f"{V1}x", f"http://[{V1}/ipfs/",
        "https://ipfs.example/ipfs/", f"bafy{'a' * 400}", "zzz", "f01", "k", "b", "z",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_name(text):
    with pytest.raises(InvalidInputError) as caught:
        read_pasted(text)
    assert isinstance(caught.value, (InvalidUrlError, InvalidCidError))


@pytest.mark.parametrize(
    "text", ["ipns://k51abc/x", "/ipns/docs.ipfs.tech", "https://k51abc.ipns.dweb.example/a"]
)
def test_an_ipns_name_says_how_it_is_resolved(text):
    with pytest.raises(InvalidUrlError, match="ipfs name resolve"):
        read_pasted(text)


@given(
    st.binary(max_size=40),
    st.sampled_from(["sha2-256", "sha2-512", "blake2b-256"]),
    st.sampled_from(["raw", "dag-pb"]),
    st.sampled_from(BASES),
)
def test_cids_are_read_in_every_base(data, function, codec, base):
    digest = multiformats.multihash.digest(data, function)
    other = multiformats.CID(base, 1, codec, digest)
    assert read_any_cid(str(other)) == bytes(other)
    assert read_pasted(str(other)).cid == bytes(other)
    assert cids.matches(read_any_cid(str(other)), data)
    assert not cids.matches(read_any_cid(str(other)), data + b"x")
    if function == "sha2-256":
        assert read_cid(str(other)) == bytes(other)
    else:
        with pytest.raises(InvalidCidError):
            read_cid(str(other))


def test_without_multiformats_only_cids_as_they_are_written_here_are_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "multiformats", None)
    assert read_pasted(f"ipfs://{V1}/a").cid == TREE
    assert read_cid(V1) == TREE
    for read in (read_cid, read_any_cid, read_pasted):
        with pytest.raises(MissingDependencyError, match=rf"'{V0}'.*versioned-zarr\[ipfs\]"):
            read(V0)


def test_a_cid_of_neither_codec_is_refused():
    other = multiformats.CID("base32", 1, "dag-cbor", ("sha2-256", DIGEST))
    with pytest.raises(InvalidCidError, match="folder or file"):
        read_any_cid(str(other))


def test_a_block_of_an_unknown_hash_function_cannot_be_verified():
    unknown = Cid(b"\x01\x55\x23\x04abcd")
    with pytest.raises(InvalidCidError, match="hash function"):
        cids.matches(unknown, b"x")
    short = Cid(b"\x01\x55\x12\x04" + DIGEST[:4])
    with pytest.raises(InvalidCidError, match="hash function"):
        cids.matches(short, b"x")


def test_a_cid_of_version_0_is_printed_as_version_1():
    assert cids.to_text(Cid(b"\x12\x20" + DIGEST)) == V1
    assert cids.matches(Cid(b"\x12\x20" + DIGEST), b"x")
