from trained_model import trained_model  # noqa: F401
