"""Packs: written, indexed, registered, read and verified."""
