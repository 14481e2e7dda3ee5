"""IPFS addresses: CIDs in any base, URLs, gateway paths and multiaddrs, parsed."""
