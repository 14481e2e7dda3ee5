"""A TCP proxy that passes everything on after a delay, as a distant server would."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_PIECE = 1 << 16


@contextmanager
def delayed(endpoint: str, delay_s: float) -> Iterator[str]:
    """The URL of a proxy before a server; what the server sends arrives `delay_s` later."""
    there = urlsplit(endpoint)
    loop = asyncio.new_event_loop()
    ready: asyncio.Future[int] = loop.create_future()
    threading.Thread(
        target=loop.run_until_complete,
        args=(_serve(str(there.hostname), int(there.port or 80), delay_s, ready),),
        daemon=True,
    ).start()
    port = asyncio.run_coroutine_threadsafe(asyncio.wait_for(ready, 10), loop).result()
    yield f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])


async def _serve(host: str, port: int, delay_s: float, ready: asyncio.Future[int]) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, port)
        ways = _pass(reader, back, 0), _pass(there, writer, delay_s)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*ways, return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    ready.set_result(server.sockets[0].getsockname()[1])
    with suppress(asyncio.CancelledError):
        await server.serve_forever()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass on what comes, each piece `delay_s` after it came; pieces do not wait for each other."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def read() -> None:
        data = b"-"
        while data:
            with suppress(ConnectionError):
                data = await reader.read(_PIECE)
            pieces.put_nowait((loop.time() + delay_s, data))

    task = asyncio.create_task(read())
    with suppress(ConnectionError):
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
    with suppress(ConnectionError):
        writer.close()
    task.cancel()
