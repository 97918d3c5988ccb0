"""How long a core takes for its instructions: one file per core, each entry with its source."""
