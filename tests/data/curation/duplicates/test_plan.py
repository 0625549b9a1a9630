"""A plan scales what was measured, and says so."""

import pytest

from mamba_slm.data.curation.duplicates.config import MIB, DuplicatesConfig
from mamba_slm.data.curation.duplicates.plan import MeasuredSearch, SearchPlan


@pytest.fixture
def plan():
    measured = MeasuredSearch(
        documents=1_000_000,
        text_bytes=4_000_000_000,
        stage_seconds={"signed": 20.0, "resolved": 0.5},
        stage_bytes={"signed": 600_000_000, "resolved": 1_000_000},
        slice_seconds=1e-4,
    )
    return SearchPlan(measured=measured, documents=10**9, workers=32, config=DuplicatesConfig(memory_bytes=512 * MIB))


def test_a_billion_documents_fit_into_a_gibibyte_each(plan):
    assert plan.worker_bytes < 1 << 30
    assert plan.disk_bytes == 601e9
    assert plan.core_seconds == 20_500 + plan.num_runs * plan.num_ranges * 1e-4
    assert plan.wall_seconds == pytest.approx((plan.core_seconds - 500) / 32 + 500)
    assert plan.bytes_per_second == pytest.approx(4e12 / plan.core_seconds)


def test_a_plan_prints_itself_with_its_origin(plan):
    text = str(plan)
    assert text.startswith("1.00B documents, 3.64 TiB of text")
    assert "32 workers" in text
    assert text.endswith("scaled from 1.00M documents that were measured")
    assert f"{plan.num_runs:,} runs x {plan.num_ranges:,} ranges" in text
