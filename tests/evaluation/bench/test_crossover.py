"""What is said about the hybrid follows from the measured ratios."""

import pytest

from mamba_slm.evaluation.bench.crossover import crossing, memory_verdict, points, verdict, where_it_holds


def results(task, ratios, **kept):
    def row(name, ratio, number):
        sizes = {"conversation_bytes": kept[name][number] << 20} if kept else {}
        return {"contender": name, "ours_times_as_fast": ratio, **sizes}

    return {
        "cells": [
            {"task": task, "tokens": tokens, "rows": [row("ours", 1.0, number), row("attention", ratio, number)]}
            for number, (tokens, ratio) in enumerate(ratios.items())
        ]
    }


@pytest.mark.parametrize(
    ("ratios", "level", "expected"),
    [
        ([(512, 0.8), (2048, 1.2)], 1.0, 1024),  # half of the way between logarithms
        ([(512, 1.1), (1024, 0.9), (2048, 1.1)], 1.0, 1448.154688),  # what holds from there on counts
        ([(512, 1.1)], 1.0, 512),
        ([(512, 1.2), (2048, 0.9)], 1.0, None),
        ([], 1.0, None),
    ],
)
def test_a_crossing_is_where_the_ratio_stays_above(ratios, level, expected):
    assert crossing(ratios, level) == (None if expected is None else pytest.approx(expected))


def test_words_follow_the_data():
    assert where_it_holds([(512, 0.8), (1024, 0.9)], 1.0) == "at no length measured"
    assert where_it_holds([(512, 1.8), (1024, 1.4)], 1.3) == "at every length measured"
    assert where_it_holds([(512, 1.8), (1024, 1.2)], 1.3) == "at 512 tokens, and not at the longest"
    assert where_it_holds([(512, 0.8), (2048, 1.2)], 1.0) == "from about 1,000 tokens"


def test_the_verdict_names_both_ends_the_claim_and_where_it_is_slower():
    said = verdict(results("prefill", {2048: 1.2, 512: 0.8, 8192: 1.6}), "prefill")
    assert said.startswith("**Prefill**: 0.80 times as fast at 512 tokens, 1.60 times at 8,192.")
    assert "30% faster from about" in said
    assert "40% faster from about 4,100 tokens" in said
    assert said.endswith("Slower at 512 tokens.")
    assert verdict({"cells": []}, "train") == "**Training**: not measured."


def test_cells_without_attention_alone_are_no_points():
    alone = {"cells": [{"task": "train", "tokens": 8, "rows": [{"contender": "ours", "ours_times_as_fast": 1.0}]}]}
    assert points(alone, "train") == []


def test_memory_is_compared_at_both_ends():
    said = memory_verdict(results("decode", {512: 1.0, 8192: 1.0}, ours=(5, 20), attention=(4, 60)))
    assert "5.0 MiB at 512 tokens, where attention alone keeps 4.0; 20.0 MiB at 8,192 tokens" in said
    assert memory_verdict({"cells": []}) == "**Memory of a sequence**: not measured."
