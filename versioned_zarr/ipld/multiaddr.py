"""Multiaddrs of nodes, as `ipfs config Addresses.API` prints them, and the URLs that they mean.

Reads those where HTTP is spoken: a host, /tcp, and perhaps /http, /https or /tls/http. Reads text
alone; asks nobody. Rules: the Multiaddr specification and its table of protocols
(github.com/multiformats/multiaddr).
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from versioned_zarr.errors import InvalidUrlError

_IN_URL: Final = "ipfs+/"
_HOSTS: Final = frozenset({"ip4", "ip6", "dns", "dns4", "dns6"})
_DNS_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_PORT: Final = re.compile(r"[0-9]{1,5}")
_SCHEMES: Final = {"http": "http", "https": "https", "tls/http": "https"}
_PROTOCOLS: Final = _HOSTS | {
    "certhash", "dccp", "dnsaddr", "garlic32", "garlic64", "http", "http-path", "https", "ip6zone",
    "ipcidr", "ipfs", "memory", "noise", "onion", "onion3", "p2p", "p2p-circuit",
    "p2p-stardust", "p2p-webrtc-direct", "p2p-webrtc-star", "p2p-websocket-star", "plaintextv2",
    "quic", "quic-v1", "sctp", "sni", "tcp", "tls", "udp", "udt", "unix", "utp", "webrtc",
    "webrtc-direct", "webtransport", "ws", "wss",
}  # fmt: skip
"""What may be a further part of a multiaddr, and so is never read as the name of a repository."""
_FORM: Final = (
    "give one that reads /ip4, /ip6, /dns, /dns4 or /dns6 with a host, /tcp/PORT, and then /http, "
    "/https, /tls/http or nothing, as /ip4/127.0.0.1/tcp/5001"
)
_WHERE: Final = (
    "give where it speaks HTTP, not where its peers meet it, as 'ipfs config Addresses.API' and "
    "'ipfs config Addresses.Gateway' print it"
)


def is_multiaddr(text: str) -> bool:
    """Whether a text begins as the multiaddr of a node; it may still be a wrong one."""
    kind = text[1:].partition("/")[0]
    return text[:1] == "/" and kind in _HOSTS


def base_url(text: str) -> str:
    """The URL that a multiaddr stands for: `http://HOST:PORT`, or with https.

    Raises:
        InvalidUrlError: HTTP is not spoken at such an address, or something follows it.
    """
    url, rest = _read(text, text)
    if rest:
        raise _refusal(text, f"'/{_first(rest)}' follows the port", _FORM)
    return url


def spelled_out(url: str) -> str:
    """The URL of a repository, with `http://HOST:PORT` in place of a multiaddr.

    Args:
        url: what comes back unchanged, unless it is `ipfs+/ip4/HOST/tcp/PORT/NAME` or its like.

    Raises:
        InvalidUrlError: HTTP is not spoken at such an address.
    """
    if not url.startswith(_IN_URL):
        return url
    found, rest = _read(url.removeprefix("ipfs+"), url)
    name = _first(rest)
    if name in _PROTOCOLS:
        raise _refusal(
            url,
            f"'/{name}' follows the port",
            f"the repository's name must follow it, as in ipfs+{found}/NAME; {_WHERE}",
        )
    return f"ipfs+{found}/{rest}"


def _read(text: str, whole: str) -> tuple[str, str]:
    """The URL of the multiaddr that a text begins with, and what follows that.

    Args:
        text: begins with the multiaddr.
        whole: what errors name.
    """
    kind, host, transport, port, rest = [*text[1:].split("/", 4), "", "", "", ""][:5]
    if text[:1] != "/" or kind not in _HOSTS:
        raise _refusal(whole, f"'/{kind}' is not how it begins", _FORM)
    if "@" in host:
        secret = host.rpartition("@")[0] + "@"
        raise _refusal(
            whole.replace(secret, ""),
            "it carries a user or password",
            "give those in a URL, as http://USER:PASSWORD@HOST:PORT",
        )
    shown = _host(kind, host, whole)
    if transport != "tcp":
        raise _refusal(whole, f"'/{transport}' follows the host, not /tcp", _WHERE)
    if not _PORT.fullmatch(port) or not 0 < int(port) < 1 << 16:
        raise _refusal(whole, f"{port!r} is no port", "give a number from 1 to 65535")
    said = next((each for each in _SCHEMES if f"{rest}/".startswith(f"{each}/")), "")
    scheme = _SCHEMES.get(said, "http")
    return f"{scheme}://{shown}:{int(port)}", rest[len(said) :].removeprefix("/") if said else rest


def _host(kind: str, host: str, whole: str) -> str:
    """A host as it stands in a URL."""
    try:
        if kind == "ip4":
            return str(IPv4Address(host))
        if kind == "ip6":
            if "%" in host:
                raise AddressValueError(f"a zone, as {host.partition('%')[2]!r}, is not read")
            return f"[{IPv6Address(host)}]"
    except AddressValueError as error:
        raise _refusal(whole, f"{host!r} is no host of /{kind} ({error})", _FORM) from error
    if not _DNS_NAME.fullmatch(host):
        raise _refusal(whole, f"{host!r} is no host of /{kind}", _FORM)
    return host


def _first(rest: str) -> str:
    return rest.partition("/")[0]


def _refusal(whole: str, what: str, what_to_do: str) -> InvalidUrlError:
    return InvalidUrlError(
        f"{whole!r} is no address of a node's RPC or gateway: {what}; {what_to_do}", url=whole
    )
