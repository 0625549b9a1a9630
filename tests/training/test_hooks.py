from mamba_slm.runs.metrics import read_metrics
from mamba_slm.runs.status import StatusWriter, read_status
from mamba_slm.training.hooks import SampleHook, StatusHook


def parrot(model, step):
    return [{"prompt": "p", "text": f"text at {step}"}, {"prompt": "q", "text": "…"}]


def samples_of(run):
    return [(row["step"], row["prompt"]) for row in read_metrics(run.samples_file)]


def test_samples_begin_at_step_0_and_end_with_the_run(make_trainer):
    shown = []
    hook = SampleHook(parrot, every_steps=4, show=lambda step, row: shown.append((step, row["prompt"])))
    trainer = make_trainer(max_steps=10, hooks=[hook])
    trainer.train()
    expected = [(step, prompt) for step in (0, 4, 8, 10) for prompt in "pq"]
    assert samples_of(trainer.run) == shown == expected
    rows = read_metrics(trainer.run.samples_file)
    assert rows[2] == {"step": 4, "tokens": 512, "prompt": "p", "text": "text at 4"}


def test_samples_that_a_kill_prevented_are_made_up_for_and_none_is_taken_twice(make_trainer):
    def hooks():
        return [SampleHook(parrot, every_steps=4)]

    make_trainer("cut", max_steps=4, hooks=hooks()).train()
    trainer = make_trainer("cut", max_steps=12, hooks=hooks())
    lines = trainer.run.samples_file.read_text().splitlines(keepends=True)
    trainer.run.samples_file.write_text("".join(lines[:2]))  # those of step 4 are gone
    trainer.train(resume=True)
    assert samples_of(trainer.run) == [(step, prompt) for step in (0, 4, 8, 12) for prompt in "pq"]


def test_the_status_follows_the_run(make_trainer):
    trainer = make_trainer()
    trainer.hooks = [StatusHook(StatusWriter(trainer.run.status_file, interval_seconds=0.0))]
    trainer.train()
    status = read_status(trainer.run.status_file)
    assert (status.state, status.step) == ("running", 12)  # that it is done is said by the caller
