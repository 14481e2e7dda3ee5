"""The dag-pb codec: a block with named links and some bytes of data.

It does not interpret the data (see `unixfs`). Rules: the dag-pb specification of IPLD. Blocks are
written in canonical form, links first, and read in any allowed form.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import repeat
from struct import Struct
from typing import Final, NamedTuple

from versioned_zarr.errors import CorruptBlockError
from versioned_zarr.ipld.cid import CID_SIZE, Buffer, Cid
from versioned_zarr.ipld.varint import decode as decode_varint
from versioned_zarr.ipld.varint import encode as encode_varint


class Link(NamedTuple):
    """A link from one block to another.

    Attributes:
        name: its name in the block; empty in the nodes of a file.
        cid: the CID of its target.
        tsize: the size of the target and all below it, each block counted as often as it is linked.
    """

    name: str
    cid: Cid
    tsize: int


_TOO_LARGE: Final = "a number does not fit 64 bits"

# A link of a CID of 36 bytes is written as
#   12 LENGTH  0a 24 CID  12 LENGTH NAME  18 TSIZE
# All parts except the CID and the name come from one of these tables.
_TABLE_SIZE: Final = 512
_HEADS: Final = [
    b"\x12" + encode_varint(2 + CID_SIZE + n) + b"\x0a\x24" for n in range(_TABLE_SIZE)
]
_NAME_HEADS: Final = [b"\x12" + encode_varint(n) for n in range(_TABLE_SIZE)]
_TSIZE_BEGINS: Final = [b"\x18%c" % (0x80 | n) for n in range(128)]
_MORE: Final = [b"%c" % (0x80 | n) for n in range(128)]
_LAST: Final = [b"%c" % n for n in range(128)]


def _encode_tsize(tsize: int) -> bytes:
    if tsize < 1 << 7:
        return b"\x18%c" % tsize
    begin = _TSIZE_BEGINS[tsize & 0x7F]
    if tsize < 1 << 14:
        return begin + _LAST[tsize >> 7]
    if tsize < 1 << 21:
        return begin + _MORE[tsize >> 7 & 0x7F] + _LAST[tsize >> 14]
    return begin + encode_varint(tsize >> 7)


def encode(links: Iterable[tuple[str, Cid, int]], data: bytes) -> bytes:
    """Return the block with `links` (name, cid, tsize), in the given order, and `data`.

    Costs half a microsecond per link.
    """
    parts: list[bytes] = []
    extend = parts.extend
    tails: dict[int, bytes] = {}
    for name, cid, tsize in links:
        encoded = name.encode()
        tail = tails.get(tsize)
        if tail is None:
            tail = tails[tsize] = _encode_tsize(tsize)
        size = len(encoded)
        if size < 300 and len(cid) == CID_SIZE:
            name_head = _NAME_HEADS[size]
            head = _HEADS[len(name_head) + size + len(tail)]
            extend((head, cid, name_head, encoded, tail))
        else:
            body = b"".join(
                (b"\x0a", encode_varint(len(cid)), cid, b"\x12", encode_varint(size), encoded, tail)
            )
            extend((b"\x12", encode_varint(len(body)), body))
    if data:
        extend((b"\x0a", encode_varint(len(data)), data))
    return b"".join(parts)


# The beginning of such a link: 12, LENGTH, 0a 24, CID, 12, LENGTH OF NAME
_read_head: Final = Struct("<BBH36sBB").unpack_from
_HEAD_SIZE: Final = 42


def decode(block: Buffer) -> tuple[list[Link], bytes]:
    """Return the links and the data of `block`.

    Costs a microsecond per link.

    Raises:
        CorruptBlockError: it is not a dag-pb block; the error has no CID, because it is unknown.
    """
    block = bytes(block)
    try:
        return _decode(block)
    except IndexError:
        raise _corrupt("it is truncated") from None
    except OverflowError:
        raise _corrupt(_TOO_LARGE) from None
    except UnicodeDecodeError:
        raise _corrupt("a link's name is not UTF-8") from None


def _decode(block: bytes) -> tuple[list[Link], bytes]:
    links, at = _decode_usual(block)
    data: bytes | None = None
    while at < len(block):
        tag = block[at]
        size, start = decode_varint(block, at + 1, 64)
        at = start + size
        if at > len(block):
            raise _corrupt("it is truncated")
        if tag == 0x12:
            links.append(_link(block[start:at]))
        elif tag == 0x0A and data is None:
            data = block[start:at]
        else:
            raise _corrupt(f"it has a field {tag:#04x} instead of links or data")
    return links, data or b""


def _decode_usual(block: bytes) -> tuple[list[Link], int]:
    """Read links while they have the usual form; return them and where they end.

    The usual form: a CID of 36 bytes, a name and a size, less than 128 bytes in total.
    """
    found: list[tuple[str, bytes, int]] = []
    append = found.append
    text = block.decode("latin-1")  # for slicing names out of it; a slice is already a str
    at = 0
    last = len(block) - _HEAD_SIZE
    while at < last:
        tag, size, cid_head, cid, name_tag, name_size = _read_head(block, at)
        name_end = at + _HEAD_SIZE + name_size
        if tag != 0x12 or cid_head != 0x240A or name_tag != 0x12 or block[name_end] != 0x18:
            break
        # The size is a varint, unrolled up to three bytes.
        tsize = block[name_end + 1]
        end = name_end + 2
        if tsize > 0x7F:
            second = block[end]
            if second <= 0x7F:
                tsize += (second - 1) << 7
                end += 1
            elif block[end + 1] <= 0x7F:
                tsize += (second - 0x81 << 7) + (block[end + 1] << 14)
                end += 2
            else:
                tsize, end = decode_varint(block, name_end + 1, 64)
        if size > 0x7F or at + 2 + size != end:
            break
        append((text[name_end - name_size : name_end], cid, tsize))
        at = end
    if not "".join([item[0] for item in found]).isascii():
        found = [(name.encode("latin-1").decode(), cid, tsize) for name, cid, tsize in found]
    # Half the time of Link(...), which calls Python code for each.
    return list(map(tuple.__new__, repeat(Link), found)), at


def scan(block: bytes, data: bytes) -> array[int] | None:
    """Return where each link starts in a block of links of less than 128 bytes, and then `data`.

    Reads only the lengths of the links: a tenth of the cost of `decode`. Returns None for any other
    block, valid or not.
    """
    starts = array("I")
    append = starts.append
    at = 0
    end = len(block) - len(data) - 2
    while at < end and block[at] == 0x12:
        size = block[at + 1]
        if size > 0x7F:
            return None
        append(at)
        at += 2 + size
    return starts if block[at:] == b"\x0a%c%b" % (len(data), data) else None


def find(block: bytes, starts: Sequence[int], name: str) -> Link | None:
    """Return the link called `name` of a block with `starts` from `scan`, or None.

    Raises:
        CorruptBlockError: that link is not valid.
    """
    encoded = name.encode(errors="surrogatepass")
    if len(encoded) > 0x7F:
        return None
    field = b"\x12%c%b\x18" % (len(encoded), encoded)
    at = block.find(field)
    while at >= 0:
        # The same bytes may occur in a CID or in another name: only the name field of a link
        # counts.
        number = bisect_right(starts, at) - 1
        if number >= 0:
            start = starts[number]
            link = _link(block[start + 2 : start + 2 + block[start + 1]])
            if link.name == name:
                return link
        at = block.find(field, at + 1)
    return None


def _link(body: bytes) -> Link:
    """Read any one link, with its fields in the order of dag-pb."""
    cid: bytes | None = None
    name = ""
    tsize = 0
    last = 0
    at = 0
    while at < len(body):
        tag = body[at]
        if tag <= last:
            raise _corrupt("a link's fields are out of order")
        last = tag
        try:
            number, at = decode_varint(body, at + 1, 64)
        except OverflowError:
            raise _corrupt(_TOO_LARGE) from None
        if tag == 0x18:
            tsize = number
            continue
        stop = at + number
        if stop > len(body):
            raise _corrupt("a link is truncated")
        if tag == 0x0A:
            cid = body[at:stop]
        elif tag == 0x12:
            name = body[at:stop].decode()
        else:
            raise _corrupt(f"a link has an unknown field {tag:#04x}")
        at = stop
    if not cid:
        raise _corrupt("a link has no CID")
    return Link(name, Cid(cid), tsize)


def read_fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """Read a protobuf message of varints, bytes, and fixed numbers as (field, content).

    Raises:
        CorruptBlockError: it is not valid.
    """
    fields: list[tuple[int, int | bytes]] = []
    at = 0
    try:
        while at < len(message):
            tag, at = decode_varint(message, at, 64)
            wire_type = tag & 7
            if wire_type == 0:
                number, at = decode_varint(message, at, 64)
                fields.append((tag >> 3, number))
                continue
            if wire_type == 2:
                size, at = decode_varint(message, at, 64)
            elif wire_type in {1, 5}:
                size = 8 if wire_type == 1 else 4
            else:
                raise _corrupt(f"its data has a field of an unknown kind {wire_type}")
            if at + size > len(message):
                raise _corrupt("its data is truncated")
            fields.append((tag >> 3, message[at : at + size]))
            at += size
    except IndexError:
        raise _corrupt("its data is truncated") from None
    except OverflowError:
        raise _corrupt(_TOO_LARGE) from None
    return fields


def read_varints(packed: bytes) -> list[int]:
    """Read consecutive varints.

    Raises:
        CorruptBlockError: the last one is truncated, or one does not fit 64 bits.
    """
    numbers: list[int] = []
    at = 0
    try:
        while at < len(packed):
            number, at = decode_varint(packed, at, 64)
            numbers.append(number)
    except IndexError:
        raise _corrupt("its data is truncated") from None
    except OverflowError:
        raise _corrupt(_TOO_LARGE) from None
    return numbers


def _corrupt(what: str) -> CorruptBlockError:
    return CorruptBlockError(f"not a dag-pb block of UnixFS: {what}")
