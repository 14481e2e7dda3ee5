"""Identity CIDs: they contain their block, so it need not be stored."""

from __future__ import annotations

from versioned_zarr.errors import InvalidCidError
from versioned_zarr.ipld import varint
from versioned_zarr.ipld.cid import Cid, is_ours, to_text


def inline(cid: Cid) -> bytes | None:
    """Return the block that an identity CID contains; None for any other CID.

    Raises:
        InvalidCidError: it has another length than it states.
    """
    if is_ours(cid):
        return None  # nearly all CIDs
    try:
        code, at = varint.decode(cid, 0)
        if code != 1:
            return None
        _, at = varint.decode(cid, at)
        function, at = varint.decode(cid, at)
        if function != 0:
            return None
        size, at = varint.decode(cid, at)
    except (IndexError, OverflowError):
        text = to_text(cid) if cid else "of no bytes"
        raise InvalidCidError(f"the CID {text} is truncated", text=text) from None
    if len(cid) != at + size:
        text = to_text(cid)
        raise InvalidCidError(f"the identity CID {text} does not hold {size} bytes", text=text)
    return bytes(cid[at:])
