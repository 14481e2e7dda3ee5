"""Multiaddrs of nodes, as `ipfs config Addresses.API` prints them, converted to URLs.

Accepts HTTP addresses: a host, /tcp, and optionally /http, /https or /tls/http. Parses text only,
without network access. `multiformats` parses IP addresses and ports and knows the protocols, but
not DNS names. Rules: the Multiaddr specification (github.com/multiformats/multiaddr).
"""

from __future__ import annotations

import re
from typing import Final

from versioned_zarr.errors import InvalidUrlError
from versioned_zarr.ipld.address.multiformats_adapter import address_value, is_protocol
from versioned_zarr.urls import without_user

_IN_URL: Final = "ipfs+/"
_HOSTS: Final = frozenset({"ip4", "ip6", "dns", "dns4", "dns6"})
_DNS_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_SCHEMES: Final = {"http": "http", "https": "https", "tls/http": "https"}
_UNLISTED: Final = frozenset({"http-path", "ipfs", "memory"})
"""Protocols that `multiformats` does not know; a repository cannot have these names."""
_FORM: Final = (
    "give one of the form /ip4, /ip6, /dns, /dns4 or /dns6 with a host, /tcp/PORT, and then /http, "
    "/https, /tls/http or nothing, as /ip4/127.0.0.1/tcp/5001"
)
_WHERE: Final = (
    "give the node's HTTP address, not its peer-to-peer address, as 'ipfs config Addresses.API' "
    "and 'ipfs config Addresses.Gateway' print it"
)


def is_multiaddr(text: str) -> bool:
    """Whether a text looks like the multiaddr of a node; it may still be invalid."""
    kind = text[1:].partition("/")[0]
    return text[:1] == "/" and kind in _HOSTS


def base_url(text: str) -> str:
    """The URL for a multiaddr: `http://HOST:PORT`, or with https.

    Raises:
        InvalidUrlError: the address does not use HTTP, or something follows it.
    """
    url, rest = _read(text, text)
    if rest:
        raise _refusal(text, f"'/{_first(rest)}' follows the port", _FORM)
    return url


def spelled_out(url: str) -> str:
    """The URL of a repository, with `http://HOST:PORT` in place of a multiaddr.

    Args:
        url: returned unchanged, unless it has a form like `ipfs+/ip4/HOST/tcp/PORT/NAME`.

    Raises:
        InvalidUrlError: the address does not use HTTP.
    """
    if not url.startswith(_IN_URL):
        return url
    found, rest = _read(url.removeprefix("ipfs+"), url)
    name = _first(rest)
    if name in _UNLISTED or is_protocol(name):
        raise _refusal(
            url,
            f"'/{name}' follows the port",
            f"the repository's name must follow it, as in ipfs+{found}/NAME; {_WHERE}",
        )
    return f"ipfs+{found}/{rest}"


def _read(text: str, whole: str) -> tuple[str, str]:
    """The URL for the multiaddr at the beginning of a text, and the rest of the text.

    Args:
        text: text that begins with the multiaddr.
        whole: the text for errors.
    """
    kind, host, transport, port, rest = [*text[1:].split("/", 4), "", "", "", ""][:5]
    if "@" in text:
        raise _refusal(
            whole,
            "it contains a user or password",
            "give those in a URL, as http://USER:PASSWORD@HOST:PORT",
        )
    if text[:1] != "/":
        raise _refusal(whole, "it does not begin with '/'", _FORM)
    if kind not in _HOSTS:
        raise _refusal(whole, f"it cannot begin with '/{kind}'", _FORM)
    shown = _host(kind, host, whole)
    if transport != "tcp":
        raise _refusal(whole, f"'/{transport}' follows the host, not /tcp", _WHERE)
    try:
        number = address_value("tcp", port)
    except ValueError:
        number = "0"
    if number == "0":
        raise _refusal(whole, f"{port!r} is not a port", "give a number from 1 to 65535")
    said = next((each for each in _SCHEMES if f"{rest}/".startswith(f"{each}/")), "")
    scheme = _SCHEMES.get(said, "http")
    return f"{scheme}://{shown}:{number}", rest[len(said) :].removeprefix("/") if said else rest


def _host(kind: str, host: str, whole: str) -> str:
    """A host in the form for a URL."""
    if kind in {"ip4", "ip6"}:
        try:
            if "%" in host:
                raise ValueError(f"a zone such as {host.partition('%')[2]!r} is not supported")
            value = address_value(kind, host)
        except ValueError as error:
            raise _refusal(whole, f"{host!r} is not a host for /{kind} ({error})", _FORM) from error
        return value if kind == "ip4" else f"[{value}]"
    if not _DNS_NAME.fullmatch(host):
        raise _refusal(whole, f"{host!r} is not a host for /{kind}", _FORM)
    return host


def _first(rest: str) -> str:
    return rest.partition("/")[0]


def _refusal(whole: str, what: str, what_to_do: str) -> InvalidUrlError:
    shown = without_user(whole).rpartition("@")[2]
    return InvalidUrlError(
        f"{shown!r} is not the address of a node's RPC or gateway: {what}; {what_to_do}", url=shown
    )
