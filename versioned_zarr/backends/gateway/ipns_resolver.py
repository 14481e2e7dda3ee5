"""The IPNS resolver: asks every gateway for a name's record, and checks its signature.

A gateway cannot forge the target of a name. It can withhold the newest record and send an older one
that is still valid, so all gateways are asked, and the newest record wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from versioned_zarr.backends.gateway.client import Gateway
from versioned_zarr.backends.gateway.defaults import GATEWAYS_VARIABLE
from versioned_zarr.errors import (
    CorruptError,
    MissingDependencyError,
    RefNotFoundError,
    StorageError,
)
from versioned_zarr.ipld.address.ipfs_address import (
    IpfsAddress,
    IpnsAddress,
    read_name,
    read_pasted,
)
from versioned_zarr.ipld.ipns import LONGEST_RECORD_BYTES, IpnsRecord, public_key, read_record

try:
    import httpx
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError as error:
    raise MissingDependencyError(
        "verifying IPNS names needs the package cryptography; "
        "pip install 'versioned-zarr[ipfs]', or open the CID instead",
        package="cryptography",
        extra="ipfs",
    ) from error

_RECORD = "application/vnd.ipfs.ipns-record"
_LONGEST_CHAIN = 8


def resolve(named: IpnsAddress, gateways: Sequence[str], timeout_s: float) -> IpfsAddress:
    """The verified current target of an IPNS name; one parallel request to each gateway.

    Raises:
        RefNotFoundError: no gateway has a record signed by the name's key; the message says why.
        InvalidUrlError: the name is not an Ed25519 key, or its target cannot be opened.
        StorageError: the chain of names is too long.
    """
    for _ in range(_LONGEST_CHAIN):
        path = _newest(named, gateways, timeout_s).path
        full = "/".join(part for part in (path.rstrip("/"), named.path) if part)
        following = read_name(full)
        if following is None:
            return read_pasted(full)._replace(gateway=named.gateway)
        named = following
    raise StorageError(
        f"{named.text!r} resolves to a chain of too many IPNS names", where=named.text
    )


def _newest(named: IpnsAddress, gateways: Sequence[str], timeout_s: float) -> IpnsRecord:
    key = public_key(named.name, named.text)
    reasons: list[str] = []
    found: list[IpnsRecord] = []

    def ask(url: str) -> IpnsRecord | str:
        asked = Gateway(url, timeout_s)
        gateway = asked.name  # without credentials
        try:
            record = _fetch(asked, named.text, timeout_s)
            return read_record(record, key, _verify, datetime.now(UTC))
        except CorruptError as error:
            return f"{gateway} sent {error}"
        except StorageError as error:
            return f"{gateway} {error}"
        except httpx.HTTPError as error:
            return f"{gateway} did not answer: {str(error) or type(error).__name__}"

    with ThreadPoolExecutor(min(16, len(gateways)), thread_name_prefix="ipns") as threads:
        for said in threads.map(ask, gateways):
            if isinstance(said, str):
                reasons.append(said)
            else:
                found.append(said)
    if not found:
        raise RefNotFoundError(
            f"no gateway can resolve the IPNS name {named.text!r}: {'; '.join(reasons)}; pass "
            f"gateways= or set ${GATEWAYS_VARIABLE} to try other gateways, or publish it again",
            ref=named.text,
        )
    return max(found)


def _fetch(gateway: Gateway, name: str, timeout_s: float) -> bytes:
    with (
        httpx.Client(timeout=timeout_s, follow_redirects=True) as client,
        client.stream(
            "GET",
            f"{gateway.base_url}/ipns/{name}",
            params={"format": "ipns-record"},
            headers={"Accept": _RECORD, "User-Agent": "versioned-zarr", **gateway.headers},
        ) as answer,
    ):
        if answer.status_code != 200:
            raise StorageError(f"answered {answer.status_code}", where=gateway.name)
        record = b""
        for part in answer.iter_bytes():
            record += part
            if len(record) > LONGEST_RECORD_BYTES:
                break  # too long for a record, which the reader reports
        return record


def _verify(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True
