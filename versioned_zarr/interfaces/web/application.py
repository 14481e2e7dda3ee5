"""The ASGI application: routes requests, and maps errors to HTTP status codes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from inspect import signature
from typing import Any, Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from versioned_zarr.errors import (
    CorruptBlockError,
    CorruptError,
    InvalidInputError,
    KeyNotFoundError,
    NotFoundError,
)
from versioned_zarr.interfaces.web.exposure import Exposure
from versioned_zarr.interfaces.web.gateway_routes import answer_ipfs
from versioned_zarr.interfaces.web.url_paths import read_path
from versioned_zarr.interfaces.web.zarr_routes import answer_key, answer_refs
from versioned_zarr.repository.repository import Repository

_READABLE: Final = [
    "Accept-Ranges",
    "Content-Length",
    "Content-Location",
    "Content-Range",
    "ETag",
    "X-Ipfs-Path",
    "X-Ipfs-Roots",
    # Headers that gateways list besides these, which this application never sends.
    "X-Chunked-Output",
    "X-Stream-Output",
]
_ASKABLE: Final = [
    "Cache-Control",
    "Content-Type",
    "If-None-Match",
    "If-Range",
    "Range",
    "User-Agent",
    "X-Requested-With",
]
_DAY_S: Final = 86400
_FOR_ALL: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": ", ".join(_ASKABLE),
    "Access-Control-Expose-Headers": ", ".join(_READABLE),
}
# A web page may send requests to a server on the reader's own network, if its origin is allowed.
_PRIVATE_NETWORK: Final[dict[str, Any]] = (
    {"allow_private_network": True}
    if "allow_private_network" in signature(CORSMiddleware).parameters  # not in starlette 0.47
    else {}
)

_log = logging.getLogger(__name__)


def make_app(
    repository: Repository,
    *,
    refs: Sequence[str] | None,
    cors: Sequence[str],
    hosts: Sequence[str],
) -> Starlette:
    """Create the application; see `web_api.app`."""
    offer = Exposure(repository, refs)

    def endpoint(request: Request) -> Response:
        return _answer(request, offer)

    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)]
    if "*" in cors:
        middleware.append(Middleware(_ForAll))
    if cors:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(cors),
                allow_methods=["GET", "HEAD"],
                allow_headers=_ASKABLE,
                expose_headers=_READABLE,
                max_age=_DAY_S,
                **_PRIVATE_NETWORK,
            )
        )
    # Not async: starlette runs it in a thread, because reading a repository may block.
    route = Route("/{path:path}", endpoint, methods=["GET", "HEAD"])
    return Starlette(routes=[route], middleware=middleware)


class _ForAll:
    """Allows pages of any origin to read, like gateways; see `CORSMiddleware`.

    `CORSMiddleware` handles only requests with an origin. If all responses have the headers, caches
    need only one response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        names = {name for name, _ in scope.get("headers", ())}
        if scope["type"] != "http" or b"origin" in names:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=_FOR_ALL)(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_FOR_ALL)
            await send(message)

        await self._app(scope, receive, sent)


def _answer(request: Request, offer: Exposure) -> Response:
    try:
        path = read_path(_raw_path(request))
        if not path.parts:
            return answer_refs(request, offer)
        if path.parts[0] == "ipfs" and len(path.parts) > 1:
            return answer_ipfs(request, offer, path)
        return answer_key(request, offer, path)
    except KeyNotFoundError as error:
        return _failure(404, f"nothing at {error.key!r}")
    except NotFoundError:
        # The messages of the engine contain paths of this machine.
        return _failure(404, "not found; / lists the branches and tags")
    except InvalidInputError as error:
        return _failure(400, str(error))
    except CorruptError as error:
        return _corrupt(offer, error)


def _corrupt(offer: Exposure, error: CorruptError) -> Response:
    """A damaged block, or an intact one in a form that is not supported here."""
    if isinstance(error, CorruptBlockError) and error.cid and offer.is_sound(error.cid):
        return _failure(501, f"not served here: {error}")
    _log.error("%s", error)
    return _failure(500, "a block is damaged; the server's operator should run 'vz fsck'")


def _failure(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, {"Cache-Control": "no-store"})


def _raw_path(request: Request) -> bytes:
    """The path as it was sent; if the server does not provide it, the decoded path."""
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    mounted_at: str = request.scope.get("root_path", "")
    return raw.partition(b"?")[0].removeprefix(quote(mounted_at).encode())
