"""The trained `tiny`, for the tests that need one; training it takes longer than a test may."""

import pytest

from trained_model import trained_tiny  # noqa: F401

TRAINING_TIMEOUT_SECONDS = 3600  # about 150 s on two idle cores, three times in turn where others train first


def pytest_collection_modifyitems(items):
    for item in items:
        if "trained_tiny" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(TRAINING_TIMEOUT_SECONDS))
            assert item.get_closest_marker("slow"), f"{item.nodeid} trains a model, so it must be marked slow"
