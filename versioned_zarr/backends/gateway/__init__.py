"""The gateway backend: read-only snapshots by CID from trustless IPFS gateways."""

from versioned_zarr.backends.gateway.gateway_snapshot import open_snapshot

__all__ = ["open_snapshot"]
