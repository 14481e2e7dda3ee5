"""What it costs, beside the peers; `python -m benchmarks` prints a table and writes JSON."""
