"""Commits and refs of a lakeFS repository: mapped to ours, read and written."""
