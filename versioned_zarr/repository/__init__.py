"""The user-facing API: repositories, sessions and snapshots."""
