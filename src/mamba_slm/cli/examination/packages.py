"""Python, what a plain installation has, and the extras: versions against the floors of the package's metadata."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from mamba_slm.cli.examination.check import Check
from mamba_slm.cli.examination.installing import PACKAGE, Installation

OPTIONAL = {
    "data": (
        "reads Parquet, .zst files, web archives, sentencepiece vocabularies, and works on text several times as fast",
        "`data`, `train` and `quickstart` refuse text in Parquet, .zst and WARC files and sentencepiece vocabularies; "
        "`data tokenize` and the search for personal data are slower",
    ),
    "cloud": ("reads and writes text in S3 and Google Cloud Storage", "`data` refuses addresses such as s3://bucket/…"),
    "ray": (
        "runs curation, tokenizing and training on a Ray cluster",
        "`--engine ray` and `train --launcher ray` refuse to start",
    ),
    "scale": ("trains with DeepSpeed ZeRO", "`train --engine deepspeed` refuses to start; ddp and fsdp need nothing"),
    "track": (
        "writes logs for TensorBoard, Weights & Biases and trackio",
        "`train --log tensorboard`, `wandb` or `trackio` refuses to start",
    ),
    "bnb": ("keeps the optimiser's moments in 8 bits", "`train --optimizer adamw8bit` refuses to start"),
    "grammar": (
        "constrains what is generated to a JSON schema, a pattern or choices",
        "`generate --json-schema`, `--regex` and `--choice` refuse to start",
    ),
    "scores": ("computes BLEU and ROUGE", "comparing generated texts with references refuses to start"),
    "eval": ("runs the benchmarks of lm-evaluation-harness", "`eval --benchmarks` refuses to start"),
    "qat": (
        "compares the rounding of `train --qat` with torchao's in our tests, and its kernels with ours",
        "nothing: `train --qat` rounds by itself",
    ),
    "hf": (
        "makes our models transformers models (Auto classes, `generate`)",
        "transformers cannot load our models, and nothing can be compared with its models",
    ),
    "finetune": (
        "trains on examples and preferences: adapters of PEFT, trainers of TRL, data sets of the hub",
        "`finetune`, `align` and models with an adapter refuse to start",
    ),
    "serve": (
        "answers HTTP requests: FastAPI, uvicorn and Prometheus' metrics",
        "`serve` refuses to start; `generate` and `chat` need nothing",
    ),
    "dashboard": ("shows runs, trains and talks in a browser", "`dashboard` refuses to start; `report` makes a page"),
    "window": (
        "shows the dashboard in a window of its own",
        "`dashboard --window` refuses to start; any browser will do",
    ),
    "gpu": ("compiles our kernels for NVIDIA GPUs", "training and decoding on a GPU take PyTorch's own operations"),
    "gguf": ("writes and reads GGUF files for llama.cpp", "`export gguf` and `verify` of .gguf files refuse to start"),
    "onnx": (
        "writes ONNX models and runs them with ONNX Runtime",
        "`export onnx`, `verify` of ONNX folders and `--runtime onnx` refuse to start",
    ),
}
"""Extra of pyproject.toml -> (what it gives, what cannot be done without it)."""


def python_check() -> Check:
    """The interpreter against the floor of the package."""
    version, text = sys.version_info, f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    if version < (3, 11):
        return Check(
            section="python", name="python", status="missing", text=f"{text}: 3.11 is needed",
            cost="the program does not start", hint="install Python 3.11 or newer",
        )  # fmt: skip
    if platform.system() == "Windows":
        return Check(
            section="python", name="python", status="note", text=f"{text}: Windows is not supported",
            cost="not measured: nothing is tested there", hint="wsl --install",
        )  # fmt: skip
    return Check(section="python", name="python", text=text)


def requirements(extra: str = "") -> dict[str, str]:
    """Package -> lowest version, of a plain installation or of an extra; extras that it includes are followed.

    >>> requirements("ray")
    {'ray': '2.50'}
    """
    found: dict[str, str] = {}
    for line in importlib.metadata.requires(PACKAGE) or ():
        requirement, _, marker = line.partition(";")
        of = re.search(r"extra\s*==\s*['\"]([\w-]+)", marker)
        if (of[1] if of else "") != extra:
            continue
        if included := re.match(rf"{PACKAGE}\[([\w,-]+)\]", requirement):
            for inner in included[1].split(","):
                found |= requirements(inner)
        elif parts := re.match(r"([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?\s*(?:<[\d.]+,)?>=\s*([\d.]+)\s*$", requirement):
            found[parts[1]] = parts[2]
    return found


def installed_version(name: str) -> str | None:
    """The version of an installed package; None when there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, for comparison.

    >>> version_numbers("2.13.0+cpu") >= version_numbers("2.11")
    True
    """
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def shortcomings(floors: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What is there, and what is absent or too old, each as a phrase."""
    there, wrong = [], []
    for name, floor in floors.items():
        version = installed_version(name)
        if version is None:
            wrong.append(f"{name} is absent")
        elif version_numbers(version) < version_numbers(floor):
            wrong.append(f"{name} {version} is older than {floor}")
        else:
            there.append(f"{name} {version}")
    return there, wrong


def packages_check(install: Installation, floors: Mapping[str, str]) -> Check:
    """The required packages; torch has a check of its own."""
    there, wrong = shortcomings(floors)
    if wrong:
        return Check(
            section="python", name="packages", status="missing", text=", ".join(wrong),
            cost="the program does not work", hint=install.itself(),
        )  # fmt: skip
    return Check(
        section="python", name="packages", text=", ".join(text for text in there if not text.startswith("torch "))
    )


def torch_check(install: Installation) -> Check:
    """PyTorch: version, threads, the instructions its CPU kernels use, CUDA."""
    from mamba_slm.runs.machine import usable_cores

    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: one of its shared libraries
        return Check(
            section="python", name="torch", status="missing", text=f"cannot be imported: {first_line(error)}",
            cost="the program does not work", hint=install.packages(["torch>=2.11"], again=True),
        )  # fmt: skip
    threads, kernels = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    text = f"{torch.__version__}, {threads} of {usable_cores()} threads, {kernels}"
    if torch.cuda.is_available():
        text += f", CUDA {torch.version.cuda}"
    return Check(section="python", name="torch", text=text)


def extras_checks(install: Installation, broken: Mapping[str, str]) -> list[Check]:
    """Every extra: complete, incomplete, too old or broken.

    Args:
        broken: package -> why importing it fails (`imports.broken_imports`).
    """
    return [extra_check(extra, install, requirements(extra), broken) for extra in OPTIONAL]


def extra_check(extra: str, install: Installation, floors: Mapping[str, str], broken: Mapping[str, str]) -> Check:
    """One extra."""
    gives, lost = OPTIONAL[extra]
    there, wrong = shortcomings(floors)
    failing = [f"{name} cannot be imported: {why}" for name, why in broken.items() if name in floors]
    if not wrong and not failing:
        return Check(section="extras", name=extra, text=f"{gives}: {', '.join(there)}")
    mend = install.extra(extra, [f"{name}>={floor}" for name, floor in floors.items()])
    if failing and not wrong:  # what is there satisfies the extra, so only installing it again changes anything
        mend = install.packages([name for name in broken if name in floors], again=True)
    absent_everywhere = not there and not failing and all(phrase.endswith("is absent") for phrase in wrong)
    text = f"absent; it {gives}" if absent_everywhere else "; ".join(wrong + failing)
    return Check(section="extras", name=extra, status="note", text=text, cost=f"{lost}; nothing else", hint=mend)


def modules_of(names: Iterable[str]) -> dict[str, str]:
    """Package -> module, of the packages that are installed. What we need is imported by its own name."""
    return {name: name.replace("-", "_") for name in names if installed_version(name) is not None}


def optional_packages() -> Sequence[str]:
    """Every package of every extra, once."""
    return list(dict.fromkeys(name for extra in OPTIONAL for name in requirements(extra)))


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_present(module: str) -> bool:
    """Whether a top-level module can be found, without importing it."""
    return importlib.util.find_spec(module) is not None
