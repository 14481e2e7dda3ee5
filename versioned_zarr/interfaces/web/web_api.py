"""The web API in Python: makes the ASGI application or runs it; needs the extra `serve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from versioned_zarr.errors import MissingDependencyError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from versioned_zarr.repository.repository import Repository

LOOPBACK = ("127.0.0.1", "::1", "[::1]", "localhost")
"""Names of this machine that no other machine can reach, as addresses and as in `Host`."""


def app(
    repository: Repository,
    *,
    refs: Sequence[str] | None = None,
    cors: Sequence[str] = (),
    hosts: Sequence[str] = ("*",),
) -> Starlette:
    """Return an ASGI application for a repository: `/ipfs/CID/...` and `/REF/key`; see the guide.

    Reads run in threads. Every block is verified against its CID before it is sent.

    Args:
        repository: the repository to serve.
        refs: serve only these branches, tags or CIDs of commits or trees, and the blocks that they
            reach, including their history; None serves everything that is stored.
        cors: the origins whose pages may read, such as "https://example.org", or "*".
        hosts: the allowed values of a request's `Host`; "*" for any. If only this machine should
            read, its own names protect against DNS rebinding.

    Raises:
        MissingDependencyError: starlette is not installed.
        RefNotFoundError: one of `refs` does not exist.
    """
    try:
        from versioned_zarr.interfaces.web.application import make_app
    except ImportError as error:
        raise _missing(error, "starlette") from error
    return make_app(repository, refs=refs, cors=cors, hosts=hosts)


def serve(
    repository: Repository,
    *,
    refs: Sequence[str] | None = None,
    cors: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8080,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve a repository over HTTP until the process is interrupted or terminated.

    Examples:
        Let web pages of any origin read the branch `main` at `http://127.0.0.1:8080/main/KEY`:

            vz.serve(vz.open("climate.vz"), refs=["main"], cors=["*"])

    Args:
        repository: the repository to serve.
        refs: see `app`.
        cors: see `app`.
        host: the address to listen on; by default, only this machine can connect.
        port: the port; 0 picks a free one.
        on_ready: called with the URL once the server accepts connections.

    Raises:
        MissingDependencyError: starlette or uvicorn is not installed.
        RefNotFoundError: one of `refs` does not exist.
        OSError: the server cannot listen on the address.
    """
    hosts = LOOPBACK if host in LOOPBACK else ("*",)
    made = app(repository, refs=refs, cors=cors, hosts=hosts)
    try:
        from versioned_zarr.interfaces.web.server import run
    except ImportError as error:
        raise _missing(error, "uvicorn") from error
    run(made, host=host, port=port, on_ready=on_ready)


def _missing(error: ImportError, package: str) -> ImportError:
    """The error for a failed import: our own, if it is for a package of the extra."""
    if (error.name or "").partition(".")[0] not in {"starlette", "uvicorn", "h11", "anyio"}:
        return error
    return MissingDependencyError(
        f"serving over HTTP needs the package {package}; "
        "install it with `pip install 'versioned-zarr[serve]'`",
        package=package,
        extra="serve",
    )
