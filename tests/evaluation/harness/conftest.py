"""The trained model, for the tests that need one."""

from trained_model import trained_model  # noqa: F401
