"""One trainer: settings, schedule, optimiser, the loop, checkpoints, hooks, and what a run will cost."""
