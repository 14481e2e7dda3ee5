"""An RPC response of Kubo, read to its end and limited in size."""

from __future__ import annotations

from typing import Final, NamedTuple

import httpx

ANSWER_LIMIT_BYTES: Final = 256 << 20
"""The maximum size of a response: more than a list of all refs, or of all moves of a ref."""


class RpcResponse(NamedTuple):
    """The response of a node."""

    status_code: int
    reason_phrase: str
    headers: httpx.Headers
    content: bytes

    @property
    def text(self) -> str:
        """The body as text, for errors."""
        return self.content.decode(errors="replace")


def read_all(response: httpx.Response, limit_bytes: int) -> bytes | None:
    """The body; None if it is longer than a limit."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_raw():
        parts.append(part)
        size += len(part)
        if size > limit_bytes:
            return None
    return b"".join(parts)
