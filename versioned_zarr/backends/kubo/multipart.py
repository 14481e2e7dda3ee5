"""Multipart bodies: one file in a form of Kubo's RPC, with its length known in advance."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable
from typing import NamedTuple

from versioned_zarr.storage.protocol import Bytes, FilePart

_BEFORE = (
    b"--%b\r\n"
    b'Content-Disposition: form-data; name="file"; filename="upload"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
)
_BEHIND = b"\r\n--%b--\r\n"


class MultipartUpload(NamedTuple):
    """The file of a request.

    Attributes:
        size_bytes: its size.
        parts: returns it in pieces, again for each retry.
    """

    size_bytes: int
    parts: Callable[[], Iterable[Bytes | FilePart]]

    @classmethod
    def of(cls, data: bytes) -> MultipartUpload:
        """An upload of bytes in memory."""
        return cls(len(data), lambda: [data])

    def as_form(self) -> tuple[dict[str, str], Iterable[Bytes | FilePart]]:
        """The headers and the body of a request with it."""
        boundary = secrets.token_hex(16)
        before, behind = _BEFORE % boundary.encode(), _BEHIND % boundary.encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            # With a known length, the pieces are sent as they are, and not copied into chunks.
            "Content-Length": str(len(before) + self.size_bytes + len(behind)),
        }
        return headers, itertools.chain([before], self.parts(), [behind])
