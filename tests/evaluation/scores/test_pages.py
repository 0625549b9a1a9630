"""The page, the card and the published scores say what results.json says, and nothing that a model wrote is markup."""

import re
from dataclasses import replace

import pytest

from evaluation.scores.evaluations import evaluation
from mamba_slm.evaluation.harness.names import split_names
from mamba_slm.evaluation.scores.comparing import compare
from mamba_slm.evaluation.scores.files import write_pages
from mamba_slm.evaluation.scores.page import render_comparison, render_scores
from mamba_slm.evaluation.scores.published import PUBLISHED
from mamba_slm.evaluation.scores.text import card


def test_the_page_shows_scores_beside_landmarks_and_escapes_what_the_model_wrote():
    page = render_scores(evaluation(mmlu=[1, 0, 0, 1], piqa=[0, 0]))
    assert "50.00%" in page and "43.9%" in page
    assert "no &lt;b&gt;" in page and "<b>" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page)  # nothing is fetched
    assert page == render_scores(evaluation(mmlu=[1, 0, 0, 1], piqa=[0, 0]))


def test_scores_of_a_part_of_the_questions_carry_a_warning_everywhere():
    part = replace(evaluation(piqa=[1, 0]), settings={"limit": 2})
    assert "not to be compared" in render_scores(part)
    assert "Not to be compared" in card(part)
    assert "ot to be compared" not in card(evaluation(piqa=[1, 0]))


def test_the_card_cites_where_each_landmark_stands(tmp_path):
    write_pages(tmp_path, evaluation(mmlu=[1, 0]))
    text = (tmp_path / "scores.md").read_text()
    assert "| mmlu | 1.0 | 0 | 2 | acc | 50.00% | 1.00 | 43.9% | 45% |" in text
    assert "arXiv:2009.03300" in text and "0123456789ab" in text
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_a_comparison_draws_every_interval_about_zero():
    first, second = evaluation(piqa=[0] * 40), evaluation("models/b", piqa=[1] * 20 + [0] * 20)
    page = render_comparison(first, second, compare(first, second))
    assert "+50.00% ±" in page and "better" in page and page.count("<circle") == 1


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.task)
def test_every_landmark_belongs_to_a_task_of_ours_and_names_its_paper(one):
    assert re.search(r"arXiv:\d{4}\.\d{5}", one.source)
    assert 0 <= one.value <= 1 and one.how
    assert any(one.task.startswith(name) for name in split_names("all"))
