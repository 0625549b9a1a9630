"""`mamba-slm quickstart`: from text to a small model that talks, and a report card, in minutes on any machine."""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import InterruptedRunError, SetupError, UsageError

if TYPE_CHECKING:
    from mamba_slm.runs.layout import RunDirectory
    from mamba_slm.runs.lock import RunLock
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.prepare import PreparedData

MODEL = "nano"
RUN_NAME = "quickstart"
STAGES = ("doctor", "data", "train", "evaluate", "report")
EVALUATION_SHARE = 0.13
"""Share of the time kept for what comes after training, a little more than it takes on two cores."""
SHORTEST_TRAINING_SHARE = 0.3
"""Training gets at least this share of the time, however long the data took."""
MAX_HELD_OUT_BYTES = 1 << 20
SAMPLE_WIDTH = 88
PYTHON_PROMPTS = ("def __init__(self", "import ", '    """Return ')

EPILOG = """\
Without --data it learns from the source of Python's standard library, which is on every machine; nothing is downloaded.
Interrupt it at any moment and run it again: it continues where it was.

examples:
  mamba-slm quickstart
  mamba-slm quickstart --minutes 2 --out runs/short
  mamba-slm quickstart --data notes/ --out runs/notes
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm quickstart`."""
    parser.epilog = EPILOG
    parser.add_argument("--data", metavar="PATH", help="your own text: a file, JSON Lines, or a folder")
    parser.add_argument("--pattern", metavar="GLOBS", help="files of a folder, with commas: '*.md,!*_old.txt'")
    parser.add_argument("--text-key", metavar="KEY", help="key or column of the text (default: text)")
    parser.add_argument(
        "--on-error", choices=("stop", "skip"), help="at what cannot be read: stop (default), or skip and count it"
    )
    parser.add_argument(
        "--minutes", type=float, default=5.0, metavar="N", help="time for everything, in minutes (default: 5)"
    )
    parser.add_argument("--out", metavar="DIR", help=f"run directory (default: {RUN_NAME} in the home of runs)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and the order of the data")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch chooses)")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object on stdout")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.runs.layout import RunDirectory, default_home
    from mamba_slm.runs.lock import RunLock

    started = time.monotonic()
    if not args.minutes > 0:
        raise UsageError(f"--minutes must be positive, got {args.minutes:g}")
    directory = RunDirectory(Path(args.out) if args.out else default_home() / RUN_NAME)
    require_same_data(directory, args.data)
    if directory.report_file.is_file() and directory.evaluation_file.is_file():
        console.say(f"{directory.path} is finished already; a new one: mamba-slm quickstart --out runs/another")
        show_result(directory, as_json=args.json)
        return 0

    title("doctor", "what this machine has")
    examine_machine()
    directory.path.mkdir(parents=True, exist_ok=True)
    with RunLock(directory, command="mamba-slm quickstart", say=console.say) as lock:
        train_or_continue(args, directory, lock, started)
        title("evaluate", "bits per byte on held-out files, beside compressors and a trigram")
        if not directory.evaluation_file.is_file():
            evaluate(directory)
        title("report", "the report card")
        from mamba_slm.training.report_cards import write_report_cards

        write_report_cards(directory, say=say_indented)
    console.say(f"  everything took {time.monotonic() - started:.0f} s")
    show_result(directory, as_json=args.json)
    return 0


def say_indented(text: str) -> None:
    """Lines under the heading of a stage."""
    console.say(textwrap.indent(text, "  "))


def show_sample(step: int, row: dict[str, Any]) -> None:
    """A sample in one line: where it starts from, and what the model makes of it."""
    continuation = " ".join(row["text"].split())
    shown = continuation if len(continuation) <= SAMPLE_WIDTH else continuation[: SAMPLE_WIDTH - 1] + "…"
    console.say(f"    step {step:<6} {row['prompt'].strip()} → {shown}")


def title(stage: str, text: str) -> None:
    """The heading of a stage."""
    console.say(console.coloured(f"{STAGES.index(stage) + 1}/{len(STAGES)} {stage}: {text}", "bold"))


def require_same_data(directory: RunDirectory, data: str | None) -> None:
    """Raise UsageError when the run at this place learns from other text than asked for."""
    from mamba_slm.training.run_config import read_train_config

    if not directory.config_file.is_file():
        return
    earlier = read_train_config(directory).data
    if earlier != data_setting(data):
        names = ", ".join(earlier) or "Python's standard library"
        raise UsageError(
            f"the quick start in {directory.path} learns from {names}", hint="choose another place: --out runs/NAME"
        )


def data_setting(data: str | None) -> tuple[str, ...]:
    """`TrainConfig.data` of a quick start: empty for the default corpus."""
    return () if data is None else (str(Path(data).resolve()),)


def examine_machine() -> None:
    """Print what `doctor` finds.

    Raises:
        SetupError: something that is needed is missing.
    """
    from mamba_slm.cli.examination.examine import examine_briefly

    checks = examine_briefly()
    for check in checks:
        say_indented(str(check))
    missing = [check for check in checks if check.status == "missing"]
    if missing:
        raise SetupError(f"{missing[0].name}: {missing[0].text}", hint=missing[0].hint or "mamba-slm doctor")


def train_or_continue(args: argparse.Namespace, directory: RunDirectory, lock: RunLock, started: float) -> None:
    """Prepare the data and train, from wherever the run is.

    Raises:
        InterruptedRunError: a signal ended it; everything is saved.
    """
    import dataclasses

    from mamba_slm.cli.quickstart_corpus import prepare_corpus
    from mamba_slm.cli.train import make_sampler
    from mamba_slm.model.presets import preset
    from mamba_slm.training.run import read_options, train
    from mamba_slm.training.run_config import read_train_config

    again = again_command(args)
    config = read_train_config(directory) if directory.config_file.is_file() else first_config(args)
    if (directory.path / "model").is_dir():
        title("train", "done already")
        return

    def prepare(run: RunDirectory) -> PreparedData:
        prepared = prepare_corpus(
            run,
            args.data,
            reading=read_options(config),
            largest_vocabulary=preset(MODEL).vocab_size,
            say=say_indented,
        )
        title("train", f"a {MODEL} hybrid of Mamba-2 and attention")
        return prepared

    def set_length(config: TrainConfig, prepared: PreparedData) -> TrainConfig:
        used = (time.monotonic() - started) / 60
        minutes = max(args.minutes * (1 - EVALUATION_SHARE) - used, args.minutes * SHORTEST_TRAINING_SHARE)
        prompts = PYTHON_PROMPTS if args.data is None else openings(directory)
        return dataclasses.replace(config, max_minutes=round(minutes, 3), prompts=prompts)

    title("data", args.data or "the source of Python's standard library, split into training and held-out files")
    result = train(
        config,
        run=directory.path,
        resume="auto",
        prepare=prepare,
        set_length=set_length,
        make_sampler=make_sampler,
        show_sample=show_sample,
        kind="quickstart",
        command=again,
        lock=lock,
        say=say_indented,
    )
    if result.interrupted:
        raise InterruptedRunError(
            f"stopped by {result.reason} after step {result.step:,}; everything is saved",
            hint=f"go on with: {' '.join(again)}",
        )


def again_command(args: argparse.Namespace) -> list[str]:
    """The command line that starts or continues this quick start."""
    words = ["mamba-slm", "quickstart"]
    for name in ("data", "pattern", "text_key", "on_error", "out", "threads"):
        if getattr(args, name) is not None:
            words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    if args.minutes != 5.0:
        words += ["--minutes", f"{args.minutes:g}"]
    if args.seed:
        words += ["--seed", str(args.seed)]
    return words


def first_config(args: argparse.Namespace) -> TrainConfig:
    """Settings of a new quick start; its length is set when the data are ready."""
    from mamba_slm.core.config import from_dict
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.presets import train_preset

    settings: dict[str, Any] = {
        **train_preset(MODEL),
        "data": data_setting(args.data),
        "data_pattern": args.pattern,
        "text_key": args.text_key or "text",
        "on_error": args.on_error or "stop",
        "seed": args.seed,
        "threads": args.threads,
        "log_every_steps": 40,
        "sample_every_steps": 160,
        "save_every_steps": 160,
        "validate_every_steps": 320,
        "validation_tokens": 16_384,
        "keep_last": 1,
    }
    return from_dict(TrainConfig, settings, where="quickstart")


def openings(directory: RunDirectory) -> tuple[str, ...]:
    """How two held-out documents begin: their first words, as prompts."""
    from mamba_slm.cli.quickstart_corpus import held_out_documents

    return tuple(" ".join(document.text.split()[:5])[:60] for document in held_out_documents(directory, limit=2))


def evaluate(directory: RunDirectory) -> None:
    """Write evaluation.json from what the run directory holds."""
    from mamba_slm.cli.quickstart_corpus import held_out_documents, training_shards
    from mamba_slm.core.files import write_json_atomic
    from mamba_slm.evaluation.held_out import choose_documents, evaluate_held_out
    from mamba_slm.model.checkpoint import load_model
    from mamba_slm.text.tokenizer import Tokenizer
    from mamba_slm.training.run_config import read_train_config

    rows = evaluate_held_out(
        load_model(directory.path / "model"),
        Tokenizer.load(directory.tokenizer_file),
        choose_documents(held_out_documents(directory), max_bytes=MAX_HELD_OUT_BYTES),
        [training_shards(directory)],
        context_tokens=read_train_config(directory).context_tokens,
    )
    write_json_atomic(directory.evaluation_file, rows)


def show_result(directory: RunDirectory, *, as_json: bool) -> None:
    """The table, where the report is, and what one could do now."""
    rows = json.loads(directory.evaluation_file.read_text(encoding="utf-8"))
    if as_json:
        files = {"report": str(directory.report_file), "page": str(directory.page_file)}
        console.print_json({"run": str(directory.path), **files, "evaluation": rows})
        return
    model = next(row["bits_per_byte"] for row in rows if row["name"] == "model")
    cells = [
        [row["name"], f"{row['bits_per_byte']:.3f}", verdict(row["name"], row["bits_per_byte"], model)] for row in rows
    ]
    print(console.table(["on the same held-out bytes", "bits per byte", ""], cells, right=["bits per byte"]))
    cards = [file for file in (directory.page_file, directory.report_file) if file.is_file()]
    print(f"\nreport card      {cards[0] if cards else f'none; mamba-slm report {directory.path}'}")
    print(f"talk to it       mamba-slm chat {directory.path}")
    print(f'let it write     mamba-slm generate {directory.path} "def main("')
    print("look again       mamba-slm runs list")
    print("your own text    mamba-slm quickstart --data FOLDER --out runs/mine")
    print("go bigger        mamba-slm train tiny --data FOLDER --max-minutes 60")


def verdict(name: str, value: float, model: float) -> str:
    """Whether the model beats this row."""
    if name == "model":
        return "smaller is better"
    return "the model is better" if model < value else "better than the model"
