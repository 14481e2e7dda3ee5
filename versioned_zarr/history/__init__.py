"""Commits, branches and tags, and walking from one commit to others."""
