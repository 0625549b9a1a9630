"""The pattern language and where attention goes."""

import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.model.pattern import (
    attention_layers,
    build_pattern,
    expand_pattern,
    is_portable_pattern,
    mixers,
    num_attention_layers,
)

PLACEMENT = {
    1: (0,),
    2: (1,),
    3: (1,),
    4: (2,),
    5: (1, 3),
    6: (1, 4),
    7: (1, 5),
    8: (1, 4, 6),
    9: (1, 4, 7),
    10: (1, 3, 6, 8),
    11: (1, 4, 6, 9),
    12: (1, 4, 7, 10),
    13: (1, 3, 6, 9, 11),
    14: (1, 4, 7, 9, 12),
    15: (1, 2, 12, 13, 14),
    16: (1, 2, 7, 13, 14, 15),
    17: (1, 2, 8, 14, 15, 16),
    18: (1, 2, 8, 15, 16, 17),
    19: (1, 2, 6, 11, 16, 17, 18),
    20: (1, 2, 7, 12, 17, 18, 19),
    21: (1, 2, 7, 12, 18, 19, 20),
    22: (1, 2, 6, 10, 14, 19, 20, 21),
    23: (1, 2, 6, 11, 15, 20, 21, 22),
    24: (1, 2, 6, 11, 16, 21, 22, 23),
    25: (1, 2, 6, 10, 14, 18, 22, 23, 24),
    26: (1, 2, 6, 10, 14, 18, 23, 24, 25),
    27: (1, 2, 6, 10, 15, 19, 24, 25, 26),
    28: (1, 2, 5, 9, 13, 17, 21, 25, 26, 27),
    29: (1, 2, 6, 10, 14, 18, 22, 26, 27, 28),
    30: (1, 2, 5, 9, 12, 16, 19, 23, 27, 28, 29),
    31: (1, 2, 5, 9, 13, 16, 20, 24, 28, 29, 30),
    32: (1, 2, 5, 9, 13, 17, 21, 25, 29, 30, 31),
    33: (1, 2, 5, 9, 12, 16, 19, 23, 26, 30, 31, 32),
    34: (1, 2, 5, 9, 12, 16, 20, 23, 27, 31, 32, 33),
    35: (1, 2, 5, 9, 13, 17, 20, 24, 28, 32, 33, 34),
    36: (1, 2, 5, 8, 12, 15, 19, 22, 26, 29, 33, 34, 35),
    37: (1, 2, 5, 9, 12, 16, 19, 23, 26, 30, 34, 35, 36),
    38: (1, 2, 5, 9, 13, 16, 20, 24, 27, 31, 35, 36, 37),
    39: (1, 2, 5, 8, 12, 15, 19, 22, 25, 29, 32, 36, 37, 38),
    40: (1, 2, 5, 9, 12, 16, 19, 23, 26, 30, 33, 37, 38, 39),
}
"""Written out from the rule of the design with exact fractions, not with the code under test."""


@pytest.mark.parametrize(("num_layers", "expected"), PLACEMENT.items())
def test_attention_sits_where_the_table_says(num_layers, expected):
    assert attention_layers(num_layers) == expected


@pytest.mark.parametrize("num_layers", range(15, 41))
def test_deep_models_have_two_early_and_three_top_attention_layers(num_layers):
    chosen = attention_layers(num_layers)
    assert chosen[:2] == (1, 2)
    assert chosen[-3:] == (num_layers - 3, num_layers - 2, num_layers - 1)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("placement", ["early-mid-top", "even", "top"])
@pytest.mark.parametrize("num_layers", [1, 2, 3, 7, 14, 15, 16, 24, 33, 40])
def test_every_share_places_as_many_different_layers_as_it_says(num_layers, placement, share):
    chosen = attention_layers(num_layers, attention_share=share, placement=placement)
    assert len(chosen) == num_attention_layers(num_layers, share)
    assert list(chosen) == sorted(set(chosen))
    assert all(0 <= layer < num_layers for layer in chosen)


def test_a_share_of_zero_is_a_pure_mamba_model():
    assert attention_layers(24, attention_share=0.0) == ()


def test_the_top_placement_takes_the_last_layers():
    assert attention_layers(10, placement="top") == (6, 7, 8, 9)


@pytest.mark.parametrize("placement", [[3, 1, 1], (1, 3), "1,3", "3, 1", "1,3,"])
def test_a_list_of_layers_is_taken_as_it_is(placement):
    assert attention_layers(5, placement=placement) == (1, 3)


@pytest.mark.parametrize("placement", [[5], [-1, 2], "0,9"])
def test_a_layer_outside_the_model_is_refused(placement):
    with pytest.raises(ConfigError, match="lie outside the 5 layers"):
        attention_layers(5, placement=placement)


def test_an_unknown_placement_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'even'"):
        attention_layers(5, placement="evn")


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_zero_to_one_is_refused(share):
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\]"):
        attention_layers(5, attention_share=share)


def test_a_model_without_layers_is_refused():
    with pytest.raises(ConfigError, match="at least one layer"):
        attention_layers(0)


@pytest.mark.parametrize(
    ("short", "expanded"),
    [("M", "M"), ("M3*", "MMM*"), ("M-2*-", "M--*-"), ("*10", "*" * 10), ("M1-1", "M-"), ("MM*-", "MM*-")],
)
def test_a_number_repeats_the_sublayer_before_it(short, expanded):
    assert expand_pattern(short) == expanded
    assert expand_pattern(expanded) == expanded


@pytest.mark.parametrize(
    ("pattern", "character", "position"),
    [("M-x-", "x", 2), ("3M", "3", 0), ("M0*", "0", 1), ("M 3", " ", 1), ("m-", "m", 0), ("M-\n", "\n", 2)],
)
def test_an_error_in_a_pattern_names_the_character_and_its_position(pattern, character, position):
    with pytest.raises(ConfigError) as caught:
        expand_pattern(pattern)
    assert f"unknown sublayer {character!r} at position {position}" in caught.value.message
    assert "M (mamba2), * (attention) and - (swiglu)" in caught.value.hint


def test_an_empty_pattern_is_refused():
    with pytest.raises(ConfigError, match="empty"):
        expand_pattern("")


def test_layouts_differ_in_the_feed_forwards_of_mamba_layers():
    assert build_pattern(4, [1, 3]) == "M-*-M-*-"
    assert build_pattern(4, [1, 3], layout="classic") == "M*-M*-"
    assert mixers(build_pattern(4, [1, 3])) == mixers(build_pattern(4, [1, 3], layout="classic")) == "M*M*"
    with pytest.raises(UnknownNameError, match="did you mean 'classic'"):
        build_pattern(4, [1], layout="clasic")


@pytest.mark.parametrize(
    ("pattern", "portable"),
    [("M-*-", True), ("M-", True), ("M*-", False), ("-M-", False), ("M--*-", False), ("M-*", False)],
)
def test_portable_means_one_feed_forward_after_each_mixer(pattern, portable):
    assert is_portable_pattern(pattern) is portable
