"""The ASGI application: which answer a path gets, and what a failure is called in HTTP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from versioned_zarr.errors import CorruptError, InvalidInputError, KeyNotFoundError, NotFoundError
from versioned_zarr.interfaces.web.gateway import answer_ipfs
from versioned_zarr.interfaces.web.offer import Offer
from versioned_zarr.interfaces.web.paths import read_path
from versioned_zarr.interfaces.web.plain import answer_key, answer_refs
from versioned_zarr.repository.repository import BlockRepository

_READABLE: Final = [
    "Accept-Ranges",
    "Content-Length",
    "Content-Location",
    "Content-Range",
    "ETag",
    "X-Ipfs-Path",
    "X-Ipfs-Roots",
]
_ASKABLE: Final = ["Cache-Control", "If-None-Match", "If-Range", "Range", "X-Requested-With"]
_DAY_S: Final = 86400

_log = logging.getLogger(__name__)


def make_app(
    repository: BlockRepository,
    *,
    refs: Sequence[str] | None,
    cors: Sequence[str],
    hosts: Sequence[str],
) -> Starlette:
    """Make the application; see `edge.app`."""
    offer = Offer(repository, refs)

    def endpoint(request: Request) -> Response:
        return _answer(request, offer)

    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)]
    if cors:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(cors),
                allow_methods=["GET", "HEAD"],
                allow_headers=_ASKABLE,
                expose_headers=_READABLE,
                max_age=_DAY_S,
            )
        )
    # Not async: starlette runs it in a thread, as reading a repository may take its time.
    route = Route("/{path:path}", endpoint, methods=["GET", "HEAD"])
    return Starlette(routes=[route], middleware=middleware)


def _answer(request: Request, offer: Offer) -> Response:
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
        # What the engine says of it names folders of this machine.
        return _failure(404, "not here; / lists the branches and tags")
    except InvalidInputError as error:
        return _failure(400, str(error))
    except CorruptError as error:
        _log.error("%s", error)
        return _failure(500, "a block is damaged; whoever serves this should run 'vz fsck'")


def _failure(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status, {"Cache-Control": "no-store"})


def _raw_path(request: Request) -> bytes:
    """The path as it was sent; a server that does not tell has decoded what it can."""
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    mounted_at: str = request.scope.get("root_path", "")
    return raw.partition(b"?")[0].removeprefix(quote(mounted_at).encode())
