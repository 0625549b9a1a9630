"""Where the states of running requests lie: fixed slots for Mamba layers, blocks for keys and values."""
