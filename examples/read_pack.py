"""Reads packs (docs/design/packs.md) with Python's standard library alone.

python read_pack.py PACK... lists the blocks of packs, and verifies the digest of each;
python read_pack.py --cat CID PACK... writes the value with a CID to standard output.
"""

import base64
import hashlib
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

ENTRY = struct.Struct("<32sQII")  # digest, offset, size, codec
FOOTER = struct.Struct("<36sIQQII8s")  # root, hash, end of blocks, their number, CRCs, magic
SHA2_256, RAW = 0x12, 0x55


def read_pack(path: str) -> Iterator[tuple[bytes, tuple[int, bytes]]]:
    """The blocks of a pack: digest, codec and bytes of each."""
    data = Path(path).read_bytes()
    _, code, end, count, index_crc, crc, magic = FOOTER.unpack(data[-FOOTER.size :])
    index = data[end : end + count * ENTRY.size]
    if magic != b"vzpack02" or [crc, index_crc] != [zlib.crc32(data[-72:-12]), zlib.crc32(index)]:
        sys.exit(f"{path} is damaged, or no pack")
    for digest, offset, size, codec in ENTRY.iter_unpack(index):
        block = data[offset : offset + size]
        if code == SHA2_256 and hashlib.sha256(block).digest() != digest:
            sys.exit(f"{path} is damaged at byte {offset}")
        yield digest, (codec, block)


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint (seven bits per byte), and where it ends."""
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return number, at


def value(blocks: dict[bytes, tuple[int, bytes]], digest: bytes) -> bytes:
    """The bytes of a value: its leaves, concatenated."""
    codec, block = blocks[digest]
    if codec == RAW:
        return block
    parts, at = [], 0
    while block[at] == 0x12:  # a link: its length, then 0a 24 01, codec, hash, 20, the digest
        size, at = varint(block, at + 1)
        parts.append(value(blocks, block[at + 6 : at + 38]))
        at += size
    return b"".join(parts)


if __name__ == "__main__":
    is_cat = sys.argv[1:2] == ["--cat"]
    found = dict(each for path in sys.argv[3 if is_cat else 1 :] for each in read_pack(path))
    if is_cat:
        text = sys.argv[2][1:].upper()  # base32 after the letter b, then 01, codec, hash, 20
        digest = base64.b32decode(text + "=" * (-len(text) % 8))[4:]
        sys.stdout.buffer.write(value(found, digest))
    for digest, (codec, block) in {} if is_cat else found.items():
        print(digest.hex(), "value" if codec == RAW else "node", len(block))
