"""Promises of the page of a quantization: it fetches nothing, escapes everything, and is a function of the report."""

import json
import math
import re

from mamba_slm.quantization.measure import Quality
from mamba_slm.quantization.page import render_page
from mamba_slm.quantization.report import Report, Size, write_report
from mamba_slm.quantization.sensitivity import PartCost
from mamba_slm.quantization.speed import Speed


def quality(kl):
    return Quality(
        num_tokens=1000, mean_kl=kl, argmax_agreement=0.98, perplexity_before=10.0, perplexity=10.0 * math.exp(kl),
        loss_change_error=0.001,
    )  # fmt: skip


def alone(name, kl):
    return PartCost(name=name, scheme="int4, blocks of 32", num_weights=1024, quality=quality(kl))


def report(**changes):
    settings = {
        "model": "runs/<b>mine", "parameters": 10_000_000, "pattern": "M-*-", "to": "int4 & more", "method": "nearest",
        "plan": {"parts": {"in_proj": {"format": "int8", "block_size": 32}, "head": None}}, "text": "stories",
        "calibration": None, "quality": quality(0.02),
        "size": Size(file_bytes=5_900_000, memory_bytes=6_000_000, bfloat16_bytes=20_000_000, bits_per_weight=4.5),
        "speed": Speed(decode_before=100, decode=250, prefill_before=1000, prefill=900, how="in turns"),
        "parts": (alone("in_proj", 0.01), alone("head", 0.002)),
        "matrices": (alone("sublayers.0.mixer.in_proj", 0.01), alone("sublayers.2.mixer.q_proj", 0.03)),
        "unquantized": {"sublayers.1.feed_forward.down_proj": "no block divides rows of 100"},
    }  # fmt: skip
    return Report(**settings | changes)


def test_the_page_fetches_nothing_and_escapes_what_it_is_given():
    page = render_page(report())
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    assert "<b>mine" not in page and "&lt;b&gt;mine" in page
    assert "default-src &#39;none&#39;" in page


def test_the_page_shows_what_was_measured():
    page = render_page(report())
    for shown in (
        "+2.02%",
        "0.295 of BF16",
        "2.50×",
        "0.90×",
        "98.00%",
        "sublayers.2.mixer.q_proj",
        "no block divides",
    ):
        assert shown in page, shown
    assert page.index(">sublayers.2.mixer.q_proj<") < page.index(">sublayers.0.mixer.in_proj<"), "the worst first"
    assert page.count('<svg class="chart"') == 2


def test_the_same_report_gives_the_same_bytes():
    assert render_page(report()) == render_page(report())


def test_the_limit_is_said_where_there_was_one():
    assert "within the limit of 3.00%" in render_page(report(max_drop=0.03))
    assert "beyond the limit of 1.00%" in render_page(report(max_drop=0.01))
    assert report(max_drop=0.03).is_within and not report(max_drop=0.01).is_within
    assert "the limit" not in render_page(report())


def test_a_model_that_broke_is_still_shown():
    broken = quality(0.02).__class__(**{**vars(quality(0.02)), "mean_kl": math.nan, "perplexity": math.inf})
    parts = (PartCost(name="in_proj", scheme="int4", num_weights=1, quality=broken),)
    assert "beyond all numbers" in render_page(report(quality=broken, parts=parts, matrices=parts, speed=None))


def test_the_record_is_json_that_any_program_reads(tmp_path):
    write_report(report(), tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["size"]["file_ratio"] == 0.295 and found["speed"]["decode_ratio"] == 2.5
    assert [part["name"] for part in found["parts"]] == ["in_proj", "head"]
    assert (tmp_path / "report.html").read_text() == render_page(report())
