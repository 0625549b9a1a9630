"""The trained `tiny`, for the tests that need one."""

from trained_model import trained_tiny  # noqa: F401
