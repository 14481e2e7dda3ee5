"""Snapshots by their CID from trustless gateways of IPFS: no repository, no trust, read-only."""

from versioned_zarr.backends.gateway.gateway_snapshot import open_snapshot

__all__ = ["open_snapshot"]
