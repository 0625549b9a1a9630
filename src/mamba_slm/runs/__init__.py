"""The run directory as an interface: training writes it, everything else reads it. No torch, no numpy."""
