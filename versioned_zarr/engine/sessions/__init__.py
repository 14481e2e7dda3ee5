"""Sessions: uncommitted writes, their journal, and the packs that they are staged in."""
