"""Parts quantized alone, and what to keep."""

import itertools
import math
from dataclasses import replace

import pytest

from mamba_slm.model.matrices import matrix_names, part_of
from mamba_slm.model.quantization import Quantization
from mamba_slm.ops.lowbit.scheme import Scheme, scheme_named
from mamba_slm.quantization.measure import Reference
from mamba_slm.quantization.sensitivity import keep_in_words, measure_sensitivity, proposed_keep, worst_in_words
from mamba_slm.quantization.texts import written_by
from small_models import small_tokenizer, varied_model

PLAN = Quantization(
    default=Scheme(format="int4", block_size=16), parts={"k_proj": None, "in_proj": scheme_named("int8")}
)


@pytest.fixture(scope="module")
def measured():
    model = varied_model()
    reference = Reference(model, written_by(model, small_tokenizer(), num_tokens=300, seed=0).rows)
    told = []
    found = measure_sensitivity(model, reference, PLAN, progress=lambda *step: told.append(step))
    return model, reference, found, told


def test_every_quantized_part_and_matrix_is_measured_alone(measured):
    model, _, found, told = measured
    quantized = [name for name in matrix_names(model.config) if part_of(name) != "k_proj"]
    assert [cost.name for cost in found.matrices] == quantized
    assert {cost.name for cost in found.parts} == {part_of(name) for name in quantized}
    assert told[-1][0] == told[-1][1] == len(told) - 1
    for cost in found.parts:
        alone = [each for each in found.matrices if part_of(each.name) == cost.name]
        assert cost.num_weights == sum(each.num_weights for each in alone)


def test_int8_costs_less_than_int4_and_the_worst_come_first(measured):
    _, _, found, _ = measured
    costs = {cost.name: cost.quality.mean_kl for cost in found.parts}
    assert costs["in_proj"] == min(costs.values())
    worst = [cost.quality.mean_kl for cost in found.worst_matrices]
    assert worst == sorted(worst, reverse=True)
    assert len(worst_in_words(found, count=3)) == 3 and found.worst_matrices[0].name in worst_in_words(found)[0]


def test_the_model_is_as_before_afterwards(measured):
    model, reference, _, _ = measured
    quality = reference.quality_of(model)
    assert quality.mean_kl == 0 and quality.argmax_agreement == 1


def test_parts_to_keep_are_fewer_the_more_may_be_lost(measured):
    model, reference, found, _ = measured
    quality = replace(reference.quality_of(model), perplexity=reference.perplexity * math.exp(0.1))
    keep = [set(proposed_keep(model, PLAN, found, quality=quality, max_drop=drop)) for drop in (1e-9, 0.01, 0.05, 0.2)]
    assert keep[0] == {cost.name for cost in found.parts} - {"in_proj"}
    assert all(fewer <= more for more, fewer in itertools.pairwise(keep)) and not keep[-1]
    kept = proposed_keep(model, PLAN, found, quality=quality, max_drop=0.05)
    assert kept and all(scheme == scheme_named("int8") for scheme in kept.values())
    assert keep_in_words(kept) == ",".join(f"{name}=int8" for name in kept)


def test_nothing_is_left_to_keep_in_8_bits(measured):
    model, reference, found, _ = measured
    quality = replace(reference.quality_of(model), perplexity=reference.perplexity * 2)
    assert proposed_keep(model, Quantization(default=scheme_named("int8")), found, quality=quality, max_drop=0.01) == {}


def test_results_fit_json(measured):
    _, _, found, _ = measured
    first = found.to_dict()["parts"][0]
    assert {"name", "scheme", "num_weights", "mean_kl", "argmax_agreement", "perplexity_change"} <= set(first)
