"""Hubs on this machine."""

import pytest

from data_hub import Hub


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.close()


@pytest.fixture
def another_hub():
    """A second server, for redirects to another host."""
    server = Hub()
    yield server
    server.close()
