"""`mamba-slm quantize`: a model with matrices of 8 or 4 bits, and what that costs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mamba_slm.cli import console
from mamba_slm.cli.adapter_flags import adapter_choices, add_adapter_flag, whole_model
from mamba_slm.core.errors import UsageError

if TYPE_CHECKING:
    from mamba_slm.quantization.config import QuantizeConfig
    from mamba_slm.quantization.folder import Progress

EPILOG = """\
MODEL is a run directory, one of its checkpoints, or a model folder. The result is a model folder that generate, chat,
probe, bench and verify open by themselves, with report.html and report.json in it. A_log, D, dt_bias, convolutions,
norms and the state stay float32, always.

Whatever is written is opened again and compared with the original before it gets its place. With --max-drop a result
that costs more is refused, exit 6, and parts to keep in 8 bits are proposed after they were measured.

examples:
  mamba-slm quantize runs/quickstart --to int8
  mamba-slm quantize runs/quickstart --to int4 --calibration notes.txt --max-drop 1% --out small
  mamba-slm quantize runs/quickstart --to int4 --keep in_proj=int8,head=bf16 --dry-run
  mamba-slm quantize runs/quickstart --compare int8,int4,nf4,fp4,gptq --calibration notes.txt --no-speed
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm quantize`."""
    from mamba_slm.core.config import add_flags
    from mamba_slm.quantization.config import QuantizeConfig

    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="run directory, checkpoint or model folder")
    add_adapter_flag(parser)
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="the folder to write; default: MODEL-FORMAT")
    parser.add_argument("--overwrite", action="store_true", help="replace FOLDER once the new one is measured")
    parser.add_argument(
        "--compare", metavar="LIST",
        help="write nothing, but show a table of these formats: int8, int4, nf4, fp4, int8-dynamic, mixed; gptq and "
        "hqq mean int4 by that method; FORMAT:METHOD is any other pair",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show what would become of each part, and how large")
    parser.add_argument("--json", action="store_true", help="one JSON document with everything measured")
    add_flags(parser.add_argument_group("settings"), QuantizeConfig)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    from mamba_slm.core.config import flags_given, resolve
    from mamba_slm.quantization.config import QuantizeConfig

    config, _ = resolve(QuantizeConfig, [("command line", flags_given(args, QuantizeConfig))])
    if args.dry_run:
        if args.compare:
            raise UsageError("--dry-run shows one format, --compare measures several", hint="leave one of them out")
        return dry_run(args, config)
    if args.compare and (config.to is not None or args.out is not None):
        what = "--to" if config.to is not None else "--out"
        raise UsageError(f"--compare names the formats and writes nothing, so {what} says nothing")
    out = default_out(args.model, config) if args.out is None else args.out
    with whole_model(args) as model:
        return quantize(args, config, model, out)


def quantize(args: argparse.Namespace, config: QuantizeConfig, model: str, out: Path) -> int:
    """Compare formats, or write the model in one."""
    from mamba_slm.cli import quantize_tables as tables

    start_kernels()
    if args.compare:
        from mamba_slm.quantization.compare import compare_formats

        with Steps() as progress:
            found = compare_formats(model, args.compare, config, kernels=True, say=console.say, progress=progress)
        if args.json:
            console.print_json(found.to_dict())
        else:
            print(tables.comparison_table(found))
        return 0
    from mamba_slm.quantization.folder import DropTooLargeError, quantize_folder

    try:
        with Steps() as progress:
            report = quantize_folder(
                model, out, config, overwrite=args.overwrite, kernels=True, say=console.say, progress=progress
            )
    except DropTooLargeError as refused:
        if args.json:
            console.print_json(
                {"out": None, "refused": refused.message, "hint": refused.hint} | refused.report.to_dict()
            )
        else:
            print(tables.report_tables(refused.report))
        raise
    if args.json:
        console.print_json({"out": str(out), **report.to_dict()})
    else:
        print(f"{tables.report_tables(report)}\nmodel       {out}\nreport      {out}/report.html")
    return 0


def start_kernels() -> None:
    """Compile, test and use the kernels for this CPU; what is left out is said."""
    from mamba_slm.ops.native.start import start_native_kernels

    started = start_native_kernels(console.say)
    if started.left:
        console.say(str(started))


def dry_run(args: argparse.Namespace, config: QuantizeConfig) -> int:
    """What would become of each part, from shapes alone."""
    from mamba_slm.cli import quantize_tables as tables
    from mamba_slm.model.adapter_choice import resolve_adapted
    from mamba_slm.model.checkpoint import load_config
    from mamba_slm.model.quantized import require_float
    from mamba_slm.model.trained_for import trained_for
    from mamba_slm.quantization.plan import plan_for, planned_size, unfitting

    folder = resolve_adapted(args.model, adapter_choices(args)).base
    require_float(folder, purpose="quantizing")
    model = load_config(folder)
    plan = plan_for(config, model, trained_for=trained_for(folder), say=console.say)
    size, odd = planned_size(plan, model), unfitting(plan, model)
    if args.json:
        console.print_json({"quantization": plan.to_json(), "unfitting": odd, **size.to_dict()})
    else:
        print(tables.plan_table(plan, size, odd))
    return 0


def default_out(model: str, config: QuantizeConfig) -> Path:
    """MODEL-FORMAT, beside the model.

    >>> from mamba_slm.quantization.config import QuantizeConfig
    >>> default_out("runs/mine/", QuantizeConfig(to="int8")).as_posix()
    'runs/mine-int8'
    """
    path = Path(model)
    name = path.name or path.resolve().name
    return path.parent / f"{name}-{config.to or 'quantized'}"


class Steps:
    """Progress of quantizing and measuring: one bar or line per stage."""

    def __init__(self) -> None:
        self.stage: str | None = None
        self.bar: console.Progress | None = None
        self.done = 0

    def __enter__(self) -> Progress:
        return self.show

    def show(self, stage: str, done: int, total: int, name: str) -> None:
        """Told what is done."""
        if stage != self.stage or done < self.done:
            self.close()
            self.stage, self.done = stage, 0
            self.bar = console.progress(total, "matrices", stage)
        assert self.bar is not None
        self.bar.advance(done - self.done)
        self.done = done
        if done == total:
            self.close()

    def close(self) -> None:
        """End the bar of a stage."""
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
        self.stage = self.bar = None

    def __exit__(self, *_: object) -> None:
        self.close()
