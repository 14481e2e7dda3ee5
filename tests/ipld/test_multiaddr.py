"""A node's multiaddr leads to the URL where it speaks HTTP, or says why it leads nowhere."""

from __future__ import annotations

import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.errors import InvalidUrlError
from versioned_zarr.ipld.address.ipfs_address import read_pasted
from versioned_zarr.ipld.address.multiaddr import base_url, spelled_out

PEER = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001"),
        ("/ip4/127.0.0.1/tcp/05001/", "http://127.0.0.1:5001"),
        ("/ip4/0.0.0.0/tcp/1/http", "http://0.0.0.0:1"),
        ("/ip4/10.0.0.7/tcp/65535/https", "https://10.0.0.7:65535"),
        ("/ip6/::1/tcp/5001", "http://[::1]:5001"),
        ("/ip6/0:0:0:0:0:0:0:1/tcp/5001", "http://[::1]:5001"),
        ("/ip6/2001:DB8::7/tcp/443/tls/http", "https://[2001:db8::7]:443"),
        ("/dns/localhost/tcp/8080/http/", "http://localhost:8080"),
        ("/dns4/node_1.example/tcp/5001", "http://node_1.example:5001"),
        ("/dns6/Node.example./tcp/5001", "http://Node.example.:5001"),
    ],
)
def test_a_multiaddr_of_a_node_is_a_url(text, url):
    assert base_url(text) == url
    for name in ("climate", "a/b", "http-data", "a%20b", "ipfs.vz"):
        assert spelled_out(f"ipfs+{text.rstrip('/')}/{name}") == f"ipfs+{url}/{name}"
    with pytest.raises(InvalidUrlError, match="gateway as such"):
        read_pasted(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it does not begin with '/'; give one of the form /ip4"),
        ("127.0.0.1/tcp/5001", "it does not begin with '/'"),
        ("/", "it cannot begin with"),
        ("/unix/run/ipfs.sock", "it cannot begin with '/unix'"),
        ("/dnsaddr/bootstrap.libp2p.io", "it cannot begin with '/dnsaddr'"),
        (f"/p2p/{PEER}", "it cannot begin with '/p2p'"),
        ("/ip4", "not a host"),
        ("/ip4/127.0.0.1", "'/' follows the host, not /tcp"),
        ("/ip4/127.0.0.1/udp/4001/quic-v1", r"'/udp' follows the host.*ipfs config Addresses.API"),
        ("/ip4/127.0.0.1/tcp", "'' is not a port"),
        ("/ip4/127.0.0.1/tcp/0", "'0' is not a port; give a number from 1 to 65535"),
        ("/ip4/127.0.0.1/tcp/65536", "'65536' is not a port"),
        ("/ip4/127.0.0.1/tcp/+1", "is not a port"),
        ("/ip4/127.0.0.1/tcp/\uff11", "is not a port"),
        ("/ip4/127.0.0.256/tcp/5001", "'127.0.0.256' is not a host for /ip4"),
        ("/ip4/localhost/tcp/5001", "'localhost' is not a host for /ip4"),
        ("/ip6/127.0.0.1/tcp/5001", "'127.0.0.1' is not a host for /ip6"),
        ("/ip6/fe80::1%eth0/tcp/5001", "not a host for /ip6 .*zone such as 'eth0'"),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/5001", "it cannot begin with '/ip6zone'"),
        ("/dns4//tcp/5001", "'' is not a host for /dns4"),
        ("/dns4/a..b/tcp/5001", "'a..b' is not a host for /dns4"),
        ("/dns4/a:b/tcp/5001", "'a:b' is not a host for /dns4"),
        ("/dns4/a?b/tcp/5001", "is not a host for /dns4"),
        (f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}", "'/p2p' follows the port"),
        (f"/ip4/127.0.0.1/tcp/4001/http/p2p/{PEER}", "'/p2p' follows the port"),
        ("/ip4/127.0.0.1/tcp/4001/ws", "'/ws' follows the port"),
        ("/dns4/x.example/tcp/443/tls/sni/y/http", "'/tls' follows the port"),
        ("/dns4/x.example/tcp/443/https/http", "'/http' follows the port"),
    ],
)
def test_what_is_no_address_of_http_says_what_where_and_what_to_do(text, why):
    with pytest.raises(InvalidUrlError, match=why) as caught:
        base_url(text)
    assert repr(text) in str(caught.value)
    assert caught.value.url == text
    if text.startswith("/") and len(text) > 1:
        url = f"ipfs+{text}/climate"
        with pytest.raises(InvalidUrlError, match=r"give |name must follow it") as caught:
            spelled_out(url)
        assert repr(url) in str(caught.value)


def test_a_gateway_has_no_name_behind_its_address():
    with pytest.raises(InvalidUrlError, match="'/climate' follows the port"):
        base_url("/ip4/127.0.0.1/tcp/8080/climate")


def test_a_password_in_a_multiaddr_is_refused_and_not_shown():
    with pytest.raises(InvalidUrlError, match="USER:PASSWORD@HOST") as caught:
        spelled_out("ipfs+/dns4/me:s3cret@x.example/tcp/5001/climate")
    assert "s3cret" not in f"{caught.value} {caught.value.url}"


@pytest.mark.parametrize(
    "url", ["", "x", "/ip4/127.0.0.1/tcp/1/x", "ipfs+http://h:1/x", "memory://x", "lakefs://r/ip4"]
)
def test_other_urls_of_repositories_stay_as_they_are(url):
    assert spelled_out(url) == url


@given(
    st.one_of(
        st.ip_addresses(v=4).map(lambda host: ("ip4", str(host))),
        st.ip_addresses(v=6).map(lambda host: ("ip6", str(host))),
    ),
    st.integers(1, 65535),
    st.sampled_from(["", "/http", "/https", "/tls/http"]),
)
def test_every_address_and_port_leads_to_its_url(host, port, tail):
    kind, address = host
    bracketed = f"[{address}]" if kind == "ip6" else address
    scheme = "http" if tail in {"", "/http"} else "https"
    assert base_url(f"/{kind}/{address}/tcp/{port}{tail}") == f"{scheme}://{bracketed}:{port}"


@given(
    st.lists(
        st.sampled_from(
            ["ip4", "ip6", "127.0.0.1", "::1", "tcp", "udp", "5001", "70000", "http", "x", ""]
        ),
        max_size=6,
    )
)
def test_what_is_read_as_a_whole_is_a_multiaddr(parts):
    text = "/" + "/".join(parts)
    try:
        url = base_url(text)
    except InvalidUrlError:
        return
    assert url.startswith("http://")
    multiformats.multiaddr.parse(text.rstrip("/"))


def test_what_may_be_a_part_of_a_multiaddr_is_no_name_of_a_repository():
    for protocol in ("p2p", "ipfs", "ws", "unix", "memory", "http-path"):
        with pytest.raises(InvalidUrlError, match=f"'/{protocol}' follows the port"):
            spelled_out(f"ipfs+/dns/localhost/tcp/5001/{protocol}/x")
