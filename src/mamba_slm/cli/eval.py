"""`mamba-slm eval`: how a model does on benchmarks, each answer kept, with standard errors."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console, eval_perplexity, eval_speed
from mamba_slm.cli.adapter_flags import adapter_choices, add_adapter_flag
from mamba_slm.core.errors import UsageError
from mamba_slm.core.plugins import plugin_names
from mamba_slm.core.units import parse_count

if TYPE_CHECKING:
    from mamba_slm.evaluation.results import Evaluation, TaskResult
    from mamba_slm.generation.loading import LoadedModel

EPILOG = """\
The questions, prompts and metrics are those of lm-evaluation-harness. --data-dir takes local copies of the questions,
in the forms in which they are published; without it they are downloaded. Scores of fewer than all questions (--limit)
are for trying things out.

Programs that a model writes run without network, files and other processes, in a sandbox of namespaces or bubblewrap;
where neither works, exit code 3, before anything is asked. They have the standard library of Python and no packages.

examples:
  mamba-slm eval runs/quickstart --benchmarks arc_easy,piqa --data-dir benchmarks --limit 100
  mamba-slm eval model --benchmarks all --data-dir benchmarks --out scores
  mamba-slm eval model --benchmarks all --data-dir benchmarks --out scores --resume
  mamba-slm eval model --benchmarks mmlu --num-fewshot 5 --json
  mamba-slm eval model --perplexity wikitext-2-raw/test.txt --stride 512 --by-position
  mamba-slm eval model --benchmarks humaneval,mbpp --data-dir benchmarks --samples 10 --temperature 0.8
  mamba-slm eval model --task benchmark --num-runs 100 --lengths 128,512 --batches 1,8
  mamba-slm eval compare scores-before scores-after --html difference.html
  mamba-slm eval model --benchmarks piqa --data-dir benchmarks --baseline scores --fail-below -0.5%
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm eval`."""
    parser.epilog = EPILOG
    parser._negative_number_matcher = re.compile(r"-\d*\.?\d+%?$")  # or -0.5% would be taken for a flag
    parser.add_argument("model", metavar="MODEL", help="model folder, checkpoint or run directory; or the word compare")
    parser.add_argument("compared", nargs="*", metavar="RESULTS", help="of compare: two results.json or their folders")
    group = parser.add_argument_group("questions")
    group.add_argument(
        "--benchmarks",
        default="all",
        metavar="NAMES",
        help="names between commas, all (the default, ten of them), or the YAML file of a task of your own",
    )
    group.add_argument("--data-dir", metavar="DIR", help="folder with local copies of the questions")
    group.add_argument("--limit", type=parse_count, metavar="N", help="only the first N questions of each task")
    group.add_argument(
        "--num-fewshot", type=parse_count, metavar="N", help="examples before each question, default: the task's own"
    )
    group.add_argument("--chat", action="store_true", help="put each question through the model's chat template")
    group.add_argument(
        "--add-bos", action="store_true", help="begin every prompt as a document, where the tokenizer itself does not"
    )
    group.add_argument(
        "--samples", type=parse_count, default=1, metavar="N", help="programs for each question of humaneval and mbpp"
    )
    group.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="of these programs; 0, the default, is greedy"
    )
    results = parser.add_argument_group("results")
    results.add_argument(
        "--out", metavar="DIR", help="folder for results.json and answers.jsonl, default eval-NAME for a model NAME"
    )
    results.add_argument("--resume", action="store_true", help="go on with the answers that are in the folder")
    results.add_argument("--json", action="store_true", help="one JSON document, without the samples")
    results.add_argument("--html", metavar="FILE", help="of compare: write a page with the differences, too")
    results.add_argument(
        "--baseline", metavar="RESULTS", help="earlier results of these benchmarks; the differences are shown"
    )
    results.add_argument(
        "--fail-below",
        type=parse_share,
        metavar="SHARE",
        help="with --baseline: exit 6 where a benchmark differs by less than this, for example -0.5%%",
    )
    eval_perplexity.add_arguments(parser)
    eval_speed.add_arguments(parser)
    runtime = parser.add_argument_group("runtime")
    runtime.add_argument(
        "--weights", metavar="KIND", help="how the matrices are held: float32 (default), bfloat16, int8, int4, ..."
    )
    add_adapter_flag(runtime)
    runtime.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu or cuda[:i]")
    runtime.add_argument("--threads", type=parse_count, metavar="N", help="CPU threads")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.model == "compare":
        from mamba_slm.cli.eval_compare import compare_results

        return compare_results(args)
    require_fitting(args)
    if args.task == "benchmark":
        return eval_speed.run(args)
    if args.perplexity:
        return eval_perplexity.run(args, load_model(args))
    from mamba_slm.evaluation.harness.code_tasks import CodeSettings
    from mamba_slm.evaluation.harness.names import split_names
    from mamba_slm.evaluation.harness.run import BenchmarkSettings, find_questions, run_benchmarks
    from mamba_slm.evaluation.results import read_evaluation
    from mamba_slm.evaluation.scores.files import CARD_FILE, PAGE_FILE

    asked = split_names(args.benchmarks)
    if args.offline and args.data_dir is None and not set(asked) <= set(plugin_names("tasks")):
        raise UsageError("--offline needs local copies of the questions", hint="give their folder to --data-dir")
    baseline = read_evaluation(args.baseline) if args.baseline else None
    settings = BenchmarkSettings(
        benchmarks=tuple(asked),
        data_dir=args.data_dir,
        num_fewshot=args.num_fewshot,
        limit=args.limit,
        chat=args.chat,
        add_bos=args.add_bos,
        code=CodeSettings(samples=args.samples, temperature=args.temperature),
    )
    questions = find_questions(settings)
    loaded = load_model(args)
    out = Path(args.out or f"eval-{Path(args.model).resolve().name}")
    console.say(f"answers: {out}")
    evaluation = run_benchmarks(loaded, settings, out=out, resume=args.resume, questions=questions, say=console.say)
    if args.json:
        fields = asdict(evaluation)
        fields.pop("samples")
        console.print_json(fields)
    else:
        show(evaluation)
    console.say(f"page: {out / PAGE_FILE}; card: {out / CARD_FILE}")
    if baseline is not None:
        from mamba_slm.cli.eval_compare import judge

        judge(baseline, evaluation, fail_below=args.fail_below)
    return 0


def load_model(args: argparse.Namespace) -> LoadedModel:
    """The model as the flags want it."""
    from mamba_slm.generation.loading import load
    from mamba_slm.generation.runtime import RuntimeSettings

    loaded = load(
        args.model,
        runtime="auto",
        settings=RuntimeSettings(
            device=args.device,
            threads=args.threads,
            weights=args.weights,
            adapters=adapter_choices(args),
            kernels=True,
            say=console.say,
        ),
    )
    console.say(f"{loaded.runtime.description} ({loaded.reason})")
    return loaded


def require_fitting(args: argparse.Namespace) -> None:
    """Raise UsageError for flags that do not go together."""
    if args.compared:
        raise UsageError(
            f"eval takes one model, got {args.model} and {' '.join(args.compared)}",
            hint="two results are compared by: mamba-slm eval compare A B",
        )
    if args.html:
        raise UsageError("--html belongs to compare", hint="the page of one model is report.html in the --out folder")
    if args.fail_below is not None and not args.baseline:
        raise UsageError("--fail-below needs a --baseline to compare with", hint="give the folder of earlier results")


def parse_share(text: str) -> float:
    """A share such as -0.5% or -0.005.

    >>> parse_share("-0.5%"), parse_share("0.01")
    (-0.005, 0.01)
    """
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share, such as -0.5%") from None


def show(evaluation: Evaluation) -> None:
    """The table of scores; what it cost goes to stderr."""
    grouped = {member for group in evaluation.groups for member in group.members}
    shown = [*evaluation.groups, *(one for one in evaluation.tasks if one.task not in grouped)]
    rows = [row for one in shown for row in rows_of(one)]
    header = ["benchmark", "questions", "examples", "metric", "score", "±"]
    print(console.table(header, rows, right=["questions", "examples", "score", "±"]))
    for one in shown:
        if one.note:
            console.say(f"{one.task}: {one.note}")
    tokens = evaluation.tokens
    if tokens.computed:
        console.say(
            f"{tokens.computed:,} tokens read to score choices, {tokens.saved:.2f} times fewer than the "
            f"{tokens.plain:,} of reading each choice with its whole prompt"
        )
    if tokens.generated:
        console.say(f"{tokens.generated:,} tokens generated")
    if evaluation.settings.get("limit"):
        console.say(f"only the first {evaluation.settings['limit']} questions of each task: not to be compared")


def rows_of(result: TaskResult) -> list[list[str]]:
    """One row for each metric; shares as percentages, everything else as it is."""
    rows: list[list[str]] = []
    for name, score in result.scores.items():
        is_share = name.partition(",")[0].startswith(("acc", "exact_match", "pass@")) or name.endswith("_acc")
        factor, digits = (100, 2) if is_share else (1, 3)
        error = "" if score.stderr is None else f"{factor * score.stderr:.{digits}f}"
        value = f"{factor * score.value:.{digits}f}{'%' if is_share else ''}"
        first = [result.task, f"{result.num_questions:,}", str(result.num_fewshot)] if not rows else ["", "", ""]
        rows.append([*first, name, value, error])
    return rows
