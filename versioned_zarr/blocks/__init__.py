"""Blocks by CID: packs, their index, and the store that keeps them."""
