"""The places where repositories live: memory, a folder, IPFS nodes and gateways, lakeFS."""
