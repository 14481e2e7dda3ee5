"""Repositories, sessions and snapshots, and what keeps them in order."""
