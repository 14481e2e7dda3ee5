"""Identity CIDs: those that hold their block themselves, so that nobody stores it."""

from __future__ import annotations

from versioned_zarr.errors import InvalidCidError
from versioned_zarr.ipld.cid import Cid, is_ours, to_text


def inline(cid: Cid) -> bytes | None:
    """Return the block that an identity CID holds itself; None for any other CID.

    Raises:
        InvalidCidError: its length is not the one that it says.
    """
    if is_ours(cid):
        return None  # nearly all there are
    code, at = _varint(cid, 0)
    if code != 1:
        return None
    _, at = _varint(cid, at)
    function, at = _varint(cid, at)
    if function != 0:
        return None
    size, at = _varint(cid, at)
    if len(cid) != at + size:
        text = to_text(cid)
        raise InvalidCidError(f"the identity CID {text} does not hold {size} bytes", text=text)
    return bytes(cid[at:])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    for position in range(at, min(at + 9, len(data))):
        number |= (data[position] & 0x7F) << shift
        if data[position] < 0x80:
            return number, position + 1
        shift += 7
    text = to_text(Cid(data)) if data else "of no bytes"
    raise InvalidCidError(f"the CID {text} ends too early", text=text)
