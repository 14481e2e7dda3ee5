"""The adapter to `multiformats`: CIDs in any base, hosts and ports of multiaddrs.

The package `multiformats` parses them. It is imported on first use, which takes 0.05 s; CIDs in the
form that this package writes do not need it.
"""

from __future__ import annotations

from types import ModuleType

from versioned_zarr.errors import InvalidCidError, MissingDependencyError

_FAILURES = (ValueError, LookupError, TypeError)
"""The errors of `multiformats` for texts that it cannot parse."""


def cid_bytes(text: str) -> bytes:
    """The bytes of a CID in any base in Multibase; a CIDv0 becomes a CIDv1.

    Raises:
        InvalidCidError: it is not a CID.
        MissingDependencyError: `multiformats` is not installed.
    """
    multiformats = _multiformats(text)
    try:
        found = multiformats.CID.decode(text)
        return bytes(found if found.version else found.set(base="base32", version=1))
    except _FAILURES as error:
        raise InvalidCidError(f"{text!r} is not a CID: {_said(error)}", text=text) from error


def peer_bytes(text: str) -> bytes:
    """The multihash of a peer, in base58 without a Multibase prefix.

    Raises:
        InvalidCidError: it is not a multihash.
        MissingDependencyError: `multiformats` is not installed.
    """
    multiformats = _multiformats(text)
    try:
        return bytes(multiformats.multibase.get("base58btc").decode(f"z{text}"))
    except _FAILURES as error:
        raise InvalidCidError(f"{text!r} is not a peer ID: {_said(error)}", text=text) from error


def address_value(protocol: str, text: str) -> str:
    """The value of a protocol in a multiaddr, such as "ip4", "ip6" or "tcp", in its shortest form.

    Raises:
        ValueError: it is not valid; the message says why.
        MissingDependencyError: `multiformats` is not installed.
    """
    known = _multiformats(text).multiaddr.proto(protocol)
    if not text.isascii():  # it accepts the digits of any script
        raise ValueError("not in ASCII")
    try:
        return str(known.raw_decoder(known.raw_encoder(text)))
    except _FAILURES as error:
        raise ValueError(_said(error)) from error


def is_protocol(name: str) -> bool:
    """Whether a name is that of a multiaddr protocol.

    Raises:
        MissingDependencyError: `multiformats` is not installed.
    """
    multicodec = _multiformats(name).multicodec
    return bool(multicodec.exists(name) and multicodec.get(name).tag == "multiaddr")


def _multiformats(text: str) -> ModuleType:
    try:
        import multiformats  # noqa: PLC0415 - see the module
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {text!r} needs the package multiformats; install it with "
            "`pip install 'versioned-zarr[ipfs]'`",
            package="multiformats",
            extra="ipfs",
        ) from error
    return multiformats


def _said(error: Exception) -> str:
    return str(error.args[0] if error.args else error).rstrip(".")
