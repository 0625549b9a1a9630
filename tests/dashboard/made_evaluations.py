"""Results as `mamba-slm eval` writes them, with answers that are made up."""

from mamba_slm.evaluation.results import Evaluation, Sample, Score, TaskResult, write_evaluation

CHOICES = (" a river", " a lamp", " a longer stone", " paper")


def sample(number, is_right, *, text=""):
    """A question with four choices, the first of which is right."""
    logprobs = (-1.0, -9.0, -9.5, -9.9) if is_right else (-9.0, -1.0, -9.5, -9.9)
    return Sample(
        question=number,
        prompt_sha256=f"{number:064x}",
        target=CHOICES[0],
        prompt=f"Question: what is number {number}?{text}\nAnswer:",
        choices=(CHOICES[0], f"{CHOICES[1]}{text}", *CHOICES[2:]),
        logprobs=logprobs,
        answer=CHOICES[0] if is_right else f"{CHOICES[1]}{text}",
        scores={"acc": float(is_right), "acc_norm": float(is_right)},
    )


def task_of(name, samples, *, note=""):
    """The scores of a task."""
    n = len(samples)
    share = sum(each.scores["acc"] for each in samples) / n
    score = Score(value=share, stderr=(share * (1 - share) / (n - 1)) ** 0.5)
    scores = {"acc": score, "acc_norm": score}
    return TaskResult(task=name, version="1.0", num_fewshot=0, num_questions=n, scores=scores, note=note)


def make_evaluation(
    folder, *, model="runs/20260401-nano", every=3, questions=40, limit=None, text="", tasks=("arc_easy",)
):
    """FOLDER/results.json in which every `every`-th answer is right.

    Args:
        text: appended to a wrong choice.
    """
    samples = {task: [sample(n, n % every == 0, text=text) for n in range(questions)] for task in tasks}
    evaluation = Evaluation(
        model=model,
        fingerprint={"weights": "0e39" * 16, "precision": "float32", "backend": "TorchRuntime on cpu"},
        settings={"benchmarks": list(tasks), "limit": limit, "chat": False},
        versions={"mamba-slm": "0.1.0"},
        tasks=tuple(task_of(task, samples[task], note="a made-up copy") for task in tasks),
        seconds=2.5,
        created="2026-04-02T08:00:00+00:00",
        samples=samples,
    )
    folder.mkdir(parents=True, exist_ok=True)
    return write_evaluation(folder, evaluation)
