"""The trained model for these tests."""

from trained_model import trained_model  # noqa: F401
