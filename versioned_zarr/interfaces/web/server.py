"""The server: runs the application on uvicorn, and closes connections of slow clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S: Final = 20.0
"""How long a client may take to send a request, after it connected or received a response."""
BODY_TIMEOUT_S: Final = 30.0
"""How long a client may leave data unread."""
SLOWEST_BYTES: Final = 32 << 10
"""The minimum number of bytes that a client must read in that time."""
HEAD_LIMIT_BYTES: Final = 32 << 10
CONNECTION_LIMIT: Final = 512


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 with time limits for clients to send their request and to read the response.

    uvicorn alone waits forever for a request that never ends, and for a client that does not read.
    """

    head_timeout_s: float = HEAD_TIMEOUT_S
    body_timeout_s: float = BODY_TIMEOUT_S
    _head_timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # as uvicorn's own has it
    ) -> None:
        """Start the timer for the first request."""
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # asyncio sets TCP_NODELAY only if the socket has the protocol TCP, which ours does not;
            # without it, a response waits some 40 ms for the client to acknowledge its head.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._cancel_head()
        self._cancel_body()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Process received data; a complete request stops the timer."""
        super().handle_events()
        # Before the first request, the cycle is None, despite uvicorn's types.
        if not getattr(self.cycle, "response_complete", True):
            self._cancel_head()

    def on_response_complete(self) -> None:
        """Start the timer for the next request."""
        self._await_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Start monitoring whether the client reads; no data is written until it has read most."""
        super().pause_writing()
        left = self.transport.get_write_buffer_size()
        self._cancel_body()
        self._body_timer = self.loop.call_later(self.body_timeout_s, self._check_body, left)

    def resume_writing(self) -> None:
        """Stop monitoring."""
        self._cancel_body()
        super().resume_writing()

    def _await_request(self) -> None:
        self._cancel_head()
        self._head_timer = self.loop.call_later(self.head_timeout_s, self._check_head, None)

    def _check_head(self, left_before: int | None) -> None:
        """Close the connection, unless the client is still reading the previous response."""
        left = self.transport.get_write_buffer_size()
        if left and (left_before is None or left <= left_before - SLOWEST_BYTES):
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._check_head, left)
            return
        self.transport.abort()

    def _check_body(self, left_before: int) -> None:
        """Close the connection if the client reads more slowly than the limit."""
        left = self.transport.get_write_buffer_size()
        if left > left_before - SLOWEST_BYTES:
            self.transport.abort()
            return
        self._body_timer = self.loop.call_later(self.body_timeout_s, self._check_body, left)

    def _cancel_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cancel_body(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None


def run(
    app: Starlette, *, host: str, port: int, on_ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve until the process is interrupted or terminated; see `web_api.serve`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listener:
        address, bound = listener.getsockname()[:2]
        name = f"[{address}]" if ":" in address else address
        url = f"http://{name}:{bound}/"
        _Server(configuration(app), lambda: on_ready(url)).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that reports when it is ready, not only that the socket accepts connections."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server.startup`."""
        await super().startup(sockets)
        self._on_ready()


def configuration(app: Starlette) -> uvicorn.Config:
    """The configuration of uvicorn."""
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEAD_LIMIT_BYTES,
        limit_concurrency=CONNECTION_LIMIT,
        timeout_graceful_shutdown=3,
    )
