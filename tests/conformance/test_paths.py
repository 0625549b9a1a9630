"""Every path computes the function of the naive recurrence: outputs and gradients."""

import pytest

from conformance.measure import definition, measure
from conformance.models import ALL_CONFIGS, CONFIGS
from conformance.registry import PATHS
from tolerances import tolerance_of


@pytest.mark.parametrize(
    ("name", "layout"), [(name, layout) for name, path in PATHS.items() for layout in path.layouts]
)
def test_a_path_agrees_with_the_naive_recurrence(name, layout):
    measured, tolerance = measure(name, layout), tolerance_of(PATHS[name].row, PATHS[name].dtype)
    assert measured.outputs <= tolerance.values
    assert measured.gradients <= tolerance.gradients, measured.worst_parameter


@pytest.mark.parametrize("layout", ALL_CONFIGS)
def test_the_comparison_is_not_empty(layout):
    """Every parameter matters to the logits, and the logits of neighbouring positions differ."""
    outcome = definition(layout)
    assert all(gradient.any() for gradient in outcome.gradients.values())
    assert all((part[1:] != part[:-1]).any(dim=1).all() for part in outcome.logits)


def test_every_kind_of_sublayer_takes_part_in_both_layouts():
    assert all(set(config.pattern) == set("M*-") for config in CONFIGS.values())
    assert {config.num_groups for config in CONFIGS.values()} == {1, 2}
    assert {config.tie_embeddings for config in CONFIGS.values()} == {True, False}
