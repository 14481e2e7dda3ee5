"""What users hold: the repository, its sessions and its snapshots."""
