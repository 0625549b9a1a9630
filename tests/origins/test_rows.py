"""Every answer to the original documents is true: its command runs, on a nano, and leaves what the answer says."""

import pytest

from data_hub import Hub
from origins.rows import ROWS
from origins.workshop import Workshop

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("origins") / "workshop")


@pytest.fixture(scope="module")
def hub():
    server = Hub()
    server.files = {"wikitext-2-raw-v1/train-00000-of-00001.parquet": b"rows" * 40}
    yield server
    server.close()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.was[0])
def test_the_answer_holds(row, workshop, hub, monkeypatch):
    monkeypatch.setenv("MAMBA_SLM_HOME", str(workshop.folder / "runs"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    seen = workshop.outcome(row.run)
    assert seen.code == row.exits, seen.err
    assert row.holds(seen), f"mamba-slm {row.run}\n{seen.out[-2000:]}\n{seen.err[-2000:]}"
