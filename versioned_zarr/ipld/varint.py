"""Varints: unsigned integers with 7 bits per byte, lowest bits first.

Supports those of protobuf, with 64 bits and up to ten bytes, and those of multiformats, with 63
bits and up to nine bytes (https://github.com/multiformats/unsigned-varint).
"""

from __future__ import annotations


def encode(number: int) -> bytes:
    """Encode an unsigned integer.

    >>> encode(300).hex()
    'ac02'
    """
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def size(number: int) -> int:
    """The number of bytes of an encoded unsigned integer."""
    return (number.bit_length() + 6) // 7 or 1


def decode(data: bytes | memoryview, at: int, bits: int = 63) -> tuple[int, int]:
    """Decode the varint at `at`; returns it and where it ends.

    >>> decode(bytes.fromhex("ac02"), 0)
    (300, 2)

    Raises:
        IndexError: the bytes are truncated.
        OverflowError: it has too many bits.
    """
    byte = data[at]
    at += 1
    if byte < 0x80:  # the usual case
        return byte, at
    number, shift = byte & 0x7F, 7
    while shift < bits:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if byte > 0x7F or number >> bits:
        raise OverflowError(f"a varint does not fit {bits} bits")
    return number, at
