"""What memory adds to that: one file per board, or per way of clocking it, each entry with its source."""
