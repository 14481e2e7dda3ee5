"""Blocks by CID: packs, caches, remote blocks, and the block store."""
