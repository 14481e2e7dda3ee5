"""Sessions: uncommitted writes, their journal, and their staged packs."""
