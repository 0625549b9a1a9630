"""A Transformer becomes a hybrid: layers are copied, some attention begins anew as Mamba-2, and text teaches it."""
