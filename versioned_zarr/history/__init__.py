"""History: commits, branches and tags, and history walks."""
