"""What the pages show of a run, read from its directory in small steps."""
