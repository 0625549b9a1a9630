"""A look into the layers every so many steps: how much each was updated, and how far Mamba layers remember."""
