"""Authorization headers, made from a user or a token, and where they may be sent.

No error shows a value. Errors of the HTTP libraries do, so values are checked here first. Rules:
RFC 9110 sections 5.1 and 5.5, RFC 7617, RFC 6750.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from typing import Any, Final

from versioned_zarr.errors import InvalidInputError
from versioned_zarr.urls import User

HEADER: Final = "Authorization"
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"([!-~]([ \t!-~]*[!-~])?)?")


def basic(user: User) -> dict[str, str]:
    """The header of a user with a password."""
    pair = f"{user.name}:{user.password}".encode("utf-8", "surrogateescape")
    return {HEADER: "Basic " + base64.b64encode(pair).decode()}


def bearer(token: str, source: str) -> dict[str, str]:
    """The header of a token.

    Raises:
        InvalidInputError: the token is not valid in a header; names the source, such as `token=`.
    """
    if not isinstance(token, str):
        raise InvalidInputError(f"{source} must be a string, not {type(token).__name__}")
    return checked({HEADER: f"Bearer {token}"}, source)


def from_environment(variable: str) -> dict[str, str]:
    """The header in an environment variable, or that of its token; empty if it is not set.

    Raises:
        InvalidInputError: it is not a valid header.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        return {}
    source = f"${variable}"
    return checked({HEADER: value}, source) if " " in value else bearer(value, source)


def checked(headers: Mapping[Any, Any], source: str) -> dict[str, str]:
    """Check that headers are valid; returns them.

    Raises:
        InvalidInputError: one is not; names the source and the header, and does not show its value.
    """
    if not isinstance(headers, Mapping):
        raise InvalidInputError(
            f"{source} must be a mapping of header names to values, not {type(headers).__name__}"
        )
    for name, value in headers.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidInputError(f"a name in {source} is not a valid HTTP header name")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise InvalidInputError(
                f"the value of header {name!r} in {source} cannot be sent: it must be one line of "
                "ASCII text without leading or trailing spaces; remove the line break at the end "
                "of a file with .strip()"
            )
    return dict(headers)


def names_one(headers: Mapping[str, str]) -> bool:
    """Whether headers already contain credentials."""
    return any(name.lower() == HEADER.lower() for name in headers)
