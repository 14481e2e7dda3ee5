"""What a URL's path says: its parts, and the CIDs in it, in any form that people write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from versioned_zarr.errors import InvalidCidError, InvalidKeyError
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.ipld.identity import inline

_LONGEST_CID: Final = 300
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"
_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_SHA2_256: Final = b"\x12\x20"


class UrlPath(NamedTuple):
    """The path of a URL, taken apart.

    Attributes:
        parts: what stands between the slashes, decoded; a part may itself hold a slash.
        is_folder: whether it ends in a slash.
    """

    parts: tuple[str, ...]
    is_folder: bool


def read_path(raw: bytes) -> UrlPath:
    """Take the path of a URL apart, as it came, before anything was decoded.

    Raises:
        InvalidKeyError: a part is empty, '.' or '..', has a NUL, or is not UTF-8.
    """
    segments = raw.removeprefix(b"/").split(b"/")
    is_folder = segments[-1] == b""
    parts = tuple(_decode(segment) for segment in (segments[:-1] if is_folder else segments))
    return UrlPath(parts, is_folder)


def _decode(segment: bytes) -> str:
    try:
        part = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise InvalidKeyError("a part of the path is not UTF-8", key=repr(segment)) from error
    if part in {"", ".", ".."} or "\0" in part:
        raise InvalidKeyError(f"no key has a part such as {part!r}", key=part)
    return part


def write_path(parts: Iterable[str], *, is_folder: bool = False) -> str:
    """The path of a URL, quoted; what `read_path` takes apart."""
    path = "".join(f"/{quote(part, safe='')}" for part in parts)
    return f"{path}/" if is_folder or not path else path


def read_cid(text: str) -> Cid:
    """The CID in a URL: base32, base36, base58, base16, or a CIDv0, which becomes a CIDv1.

    Raises:
        InvalidCidError: it is none, or of a kind that no repository holds.
    """
    if len(text) > _LONGEST_CID:
        raise InvalidCidError("too long for a CID", text=text)
    if text[:2] == "Qm" and len(text) == 46:
        data = _from_digits(text, _BASE58)
        if data[:2] == _SHA2_256:
            return from_text(to_text(Cid(b"\x01\x70" + data)))
    decoded = _from_multibase(text)
    if decoded is None:
        return from_text(text)
    cid = Cid(decoded)
    return cid if inline(cid) is not None else from_text(to_text(cid))


def _from_multibase(text: str) -> bytes | None:
    base, digits = text[:1], text[1:]
    if base == "z":
        return _from_digits(digits, _BASE58)
    if base in {"k", "K"}:
        return _from_digits(digits.lower(), _BASE36)
    if base in {"f", "F"}:
        return _from_digits(digits.lower(), _BASE36[:16], bits=4)
    if base in {"b", "B"}:
        return _from_digits(digits.lower(), _BASE32, bits=5)
    return None


def _from_digits(digits: str, alphabet: str, *, bits: int | None = None) -> bytes:
    """The bytes of a number; without `bits` a digit, as many as it takes plus the leading zeros."""
    number = 0
    for digit in digits:
        value = alphabet.find(digit)
        if value < 0:
            raise InvalidCidError(f"{digits!r} is not a CID: no digit {digit!r}", text=digits)
        number = number * len(alphabet) + value
    if bits is None:
        zeros = len(digits) - len(digits.lstrip(alphabet[0]))
        return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    spare = len(digits) * bits % 8
    return (number >> spare).to_bytes(len(digits) * bits // 8, "big")
