"""The shared folder backend: repositories in a folder that several machines mount."""
