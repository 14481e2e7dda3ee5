"""IPFS addresses: CIDs in any base, `ipfs://` and `ipns://` URLs, and gateway URLs.

Parses text only, without network access. `multiformats` parses CIDs that do not have the form that
this package writes. Rules: the address forms of the IPFS documentation
(docs.ipfs.tech/how-to/address-ipfs-on-web).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

from versioned_zarr.errors import InvalidCidError, InvalidUrlError
from versioned_zarr.ipld.address.multiaddr import is_multiaddr
from versioned_zarr.ipld.address.multiformats_adapter import cid_bytes, peer_bytes
from versioned_zarr.ipld.cid import DAG_PB, RAW, Cid, codec, from_text, to_text
from versioned_zarr.ipld.identity import inline
from versioned_zarr.ipld.multihash import multihash_of
from versioned_zarr.urls import split_url, without_user

_LONGEST_CID: Final = 600
_PEER: Final = "12D3Koo"
_KEY: Final = 0x72
_BASE64: Final = ("m", "M")  # the prefixes of a CID, from the Multibase table
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_IN_PATH: Final = re.compile(r"(.*?)/(ipfs|ipns)/([^/]+)(?:/(.*))?")
_FORMS: Final = (
    "ipfs://CID/path, a bare CID, /ipfs/CID/path, https://HOST/ipfs/CID/path "
    "or https://CID.ipfs.HOST/path"
)


class IpfsAddress(NamedTuple):
    """A parsed address of an object on IPFS.

    Attributes:
        cid: the root CID, of version 1.
        path: the decoded path below the root, with slashes between its parts.
        gateway: the base URL of the gateway in the address; None if there is none.
    """

    cid: Cid
    path: str
    gateway: str | None

    @property
    def url(self) -> str:
        """The address as `ipfs://CID/path`."""
        return f"ipfs://{to_text(self.cid)}{'/' if self.path else ''}{self.path}"


class IpnsAddress(NamedTuple):
    """A parsed address that begins with an IPNS name.

    Attributes:
        name: the key, as a CID of any codec and multihash.
        text: the name as it was written.
        path: see `IpfsAddress`.
        gateway: see `IpfsAddress`.
    """

    name: bytes
    text: str
    path: str
    gateway: str | None


def is_address(text: str) -> bool:
    """Whether a text looks like an address rather than a CID or a ref; it may still be invalid."""
    return text.startswith(("ipfs:", "ipns:", "/ipfs/", "/ipns/", "http://", "https://"))


def read_pasted(text: str) -> IpfsAddress:
    """Parse the address of an object on IPFS, in any form that people paste.

    Raises:
        InvalidUrlError: it has none of these forms, or is an IPNS name.
        InvalidCidError: the CID in it is not valid.
    """
    namespace, name, path, gateway = _read_address(text)
    if namespace == "ipns":
        shown = without_user(text)
        raise InvalidUrlError(
            f"{shown!r} is an IPNS name, whose target can change; "
            f"open the CID that 'ipfs name resolve {name}' prints",
            url=shown,
        )
    if name.startswith(_PEER):
        raise _is_name(name)
    return IpfsAddress(read_any_cid(name), path, gateway)


def read_name(text: str) -> IpnsAddress | None:
    """Parse an address that begins with an IPNS name; None if it begins with a CID.

    Raises:
        InvalidUrlError: it is not an address, or has a domain in place of the name.
    """
    namespace, name, path, gateway = _read_address(text)
    if namespace != "ipns":
        return None
    try:
        key = _decode_name(name)
    except InvalidCidError:
        key = None
    if key is None:
        raise InvalidUrlError(
            f"{name!r} is not an IPNS name that can be verified; nobody signs a domain (DNSLink): "
            f"open the CID that 'ipfs resolve -r /ipns/{name}' prints",
            url=without_user(text),
        )
    return IpnsAddress(key, name, path, gateway)


def _decode_name(name: str) -> bytes | None:
    if len(name) > _LONGEST_CID:
        return None
    if name.startswith(_PEER):  # the bare multihash, as for peers
        return b"\x01\x72" + peer_bytes(name)
    key = cid_bytes(name)
    return key if multihash_of(key) is not None else None


def _read_address(text: str) -> tuple[str, str, str, str | None]:
    """The namespace, the CID or name, the path, and the gateway of an address."""
    text = text.strip()
    if not text:
        raise InvalidUrlError(f"the address is empty; give {_FORMS}", url=text)
    if is_multiaddr(text):
        shown = without_user(text)
        raise InvalidUrlError(
            f"{shown!r} is the address of a node, not of data on it; pass its gateway as such "
            f"(gateways=, --gateway), and here {_FORMS}",
            url=shown,
        )
    gateway = None
    if _SCHEME.match(text):
        namespace, name, path, gateway = _read_url(text)
    elif text.startswith(("/ipfs/", "/ipns/")):
        _, namespace, name, path = [*text.split("/", 3), ""][:4]
    elif text.startswith(_BASE64) and _spells_cid(text):  # where a slash is a digit
        namespace, name, path = "ipfs", text, ""
    else:
        namespace, (name, _, path) = "ipfs", text.partition("/")
    if "@" in name or ":" in name:
        raise _no_address(name)
    path = path.strip("/")
    if path and not {"", ".", ".."}.isdisjoint(path.split("/")):
        shown = without_user(text)
        raise InvalidUrlError(f"the path of {shown!r} has a part that cannot be a name", url=shown)
    return namespace, name, path, gateway


def _spells_cid(text: str) -> bool:
    try:
        _decode(text)
    except InvalidCidError:
        return False
    return True


def _read_url(text: str) -> tuple[str, str, str, str | None]:
    """The namespace, what follows it, the path, decoded, and the gateway of a URL."""
    parts = split_url(text)
    user, at, host = parts.netloc.rpartition("@")
    rest = unquote(parts.path).lstrip("/")
    if parts.scheme in {"ipfs", "ipns"}:
        if at:
            raise _no_address(text)
        if host:  # unchanged: the case of a CIDv0 matters
            return parts.scheme, host, rest, None
        name, _, path = rest.removeprefix(f"{parts.scheme}/").partition("/")
        return parts.scheme, name, path, None
    if parts.scheme in {"http", "https"}:
        name, _, above = host.partition(".")
        namespace, _, above = above.partition(".")
        if namespace in {"ipfs", "ipns"} and above:
            return namespace, name, rest, f"{parts.scheme}://{user}{at}{above}"
        found = _IN_PATH.fullmatch(parts.path)
        if found is not None:
            before, namespace, name, path = found.groups()
            return namespace, name, unquote(path or ""), f"{parts.scheme}://{parts.netloc}{before}"
    raise _no_address(text)


def _no_address(text: str) -> InvalidUrlError:
    shown = without_user(text if "//" in text else f"//{text}").removeprefix("//")
    return InvalidUrlError(f"{shown!r} is not an IPFS address; give {_FORMS}", url=shown)


def read_cid(text: str) -> Cid:
    """Parse the CID in a URL, in any base; a CIDv0 becomes a CIDv1.

    Raises:
        InvalidCidError: it is not a CID, or of a kind that repositories cannot store.
    """
    cid = _decode(text)
    return cid if inline(cid) is not None else from_text(to_text(cid))


def read_any_cid(text: str) -> Cid:
    """Like `read_cid`, but with any hash function and length, as used by other tools.

    Raises:
        InvalidCidError: it is not the CID of a raw or dag-pb block.
    """
    cid = _decode(text)
    if codec(cid) == _KEY:
        raise _is_name(text)
    if inline(cid) is None and (multihash_of(cid) is None or codec(cid) not in {RAW, DAG_PB}):
        raise InvalidCidError(f"{text!r} is not the CID of a folder or file", text=text)
    return cid


def _is_name(text: str) -> InvalidCidError:
    return InvalidCidError(f"{text!r} is an IPNS name, not a CID; use 'ipns://{text}'", text=text)


def _decode(text: str) -> Cid:
    """Decode the text of a CID, converted to version 1."""
    if len(text) > _LONGEST_CID:
        raise InvalidCidError("too long for a CID", text=text)
    try:
        return from_text(text)
    except InvalidCidError:
        return Cid(cid_bytes(text))
