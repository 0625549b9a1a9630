"""How rows become steps, and what is said when they are few."""

from mamba_slm.finetuning.config import FinetuneConfig
from mamba_slm.finetuning.step_plan import plan_steps


def test_a_run_of_few_steps_says_how_to_get_more_unless_it_was_asked_for():
    few = plan_steps(FinetuneConfig(epochs=3), num_rows=2, row_tokens=1024, device_type="cpu")
    assert few.steps == 3 and "more --epochs or a smaller --batch-tokens" in str(few)
    asked = plan_steps(FinetuneConfig(max_steps=3), num_rows=2, row_tokens=1024, device_type="cpu")
    many = plan_steps(FinetuneConfig(epochs=40), num_rows=2, row_tokens=1024, device_type="cpu")
    assert "few" not in str(asked) and "few" not in str(many)
