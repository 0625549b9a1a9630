from mamba_slm.runs.evidence import Evidence
from mamba_slm.runs.report_page_samples import (
    MOST_BYTES,
    MOST_CHARACTERS,
    MOST_STEPS,
    PRINTED_STEPS,
    about,
    sample_steps,
    shortened,
    steps_that_fit,
)


def evidence_of(run, steps, *, prompts="a", text="words"):
    rows = [{"step": step, "tokens": 9 * step, "prompt": prompt, "text": text} for step in steps for prompt in prompts]
    return Evidence(run=run, samples=rows, train=[{"step": 5, "loss": 4.5}, {"step": 20, "loss": 2.5}])


def test_the_first_and_the_last_step_are_always_shown(run):
    shown, note = sample_steps(evidence_of(run, range(0, 5000, 10)))
    assert shown[0]["step"] == 0 and shown[-1]["step"] == 4990 and len(shown) == MOST_STEPS
    assert "32 of 500 sampled steps" in note
    assert sum(sample["printed"] for sample in shown) == PRINTED_STEPS


def test_everything_is_shown_when_there_is_room(run):
    shown, note = sample_steps(evidence_of(run, [0, 10, 20], prompts="ab"))
    assert [len(sample["texts"]) for sample in shown] == [2, 2, 2] and note == ""
    assert [sample["about"] for sample in shown] == [
        "before training", "90 tokens, training loss 4.50", "180 tokens, training loss 2.50",
    ]  # fmt: skip


def test_long_texts_mean_fewer_steps_but_at_least_the_ends():
    by_step = {step: {str(i): {"text": '"' * 9999} for i in range(6)} for step in range(100)}
    chosen = steps_that_fit(list(range(100)), by_step)
    assert 2 <= len(chosen) < MOST_STEPS and chosen[0] == 0 and chosen[-1] == 99
    assert len(chosen) * 6 * 6 * MOST_CHARACTERS < MOST_BYTES * 1.3


def test_text_is_cut_at_its_end_only():
    assert shortened("x" * MOST_CHARACTERS) == "x" * MOST_CHARACTERS
    assert shortened("x" * 9999) == "x" * MOST_CHARACTERS + " …"


def test_a_sample_before_any_recorded_step_has_no_loss():
    assert about(3, {}, [(5, 4.0)]) == ""
