"""Several tokens per reading of the model: somebody guesses what comes next, the model reads all guesses at once."""
