"""History: commits, branches and tags, and walks from one commit to others."""
