"""What `mamba-slm doctor` looks at: each check is a small function of what is found or measured."""
