"""Display: how repositories, snapshots and commits look in notebooks and as text."""
