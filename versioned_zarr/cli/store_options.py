"""Options of object stores on the command line, as KEY=VALUE. No value is ever printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from versioned_zarr.engine.open_options import ServerOptions

_FORM: Final = "KEY=VALUE"
_ADVICE: Final = (
    "as obstore names it, such as region=eu-central-1, endpoint=URL or allow_http=true; "
    "repeatable. Others can see the arguments of a command, so put credentials into the "
    "environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, …)."
)

_F = TypeVar("_F", bound=Callable[..., Any])


def _parsed(_: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> ServerOptions:
    """The options of `vz.open`; of a repeated key, the last counts."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"it must have the form {_FORM}", param=parameter)
        found[key] = value
    return {"storage_options": found} if found else {}


def _option(flag: str, what: str) -> Callable[[_F], _F]:
    text = f"Option of {what}, {_ADVICE}"
    name = flag.removeprefix("--").replace("-", "_") + "s"
    return click.option(flag, name, metavar=_FORM, multiple=True, callback=_parsed, help=text)


storage_option = _option("--storage-option", "the object store with the repository")
remote_option = _option("--remote-option", "the object store with the other repository")

shared_option = click.option(
    "--shared",
    "is_shared",
    is_flag=True,
    help="The folder is for several machines that mount it (Lustre, GPFS, NFS).",
)


def with_shared(options: ServerOptions, is_shared: bool) -> ServerOptions:
    """Options of a repository that is created, for a shared folder if the flag says so."""
    return {**options, "shared": True} if is_shared else options
