"""Several devices, the DeepSpeed file, what the shell sets up, and the advice of the troubleshooting guides."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

from origins.originals import REPOSITORY
from origins.row import TRAIN, Section, model, row, says, setting, true
from origins.workshop import Workshop

CLUSTER = "train 1.3B --data shards --max-steps 10 --dry-run --json"
SLURM = "train 1.3B --data shards --out runs/slurm --launcher slurm --slurm.nodes 4 --slurm.gpus-per-node 8 --dry-run"
CHECKED = "doctor --no-measure --json"


def ds_config(workshop: Workshop) -> dict[str, Any]:
    """What DeepSpeed gets when the original's file, without its bf16, is given to a nano."""
    from mamba_slm.core.config import from_dict
    from mamba_slm.model.presets import preset
    from mamba_slm.training.config import TrainConfig
    from mamba_slm.training.engines.deepspeed_settings import deepspeed_settings

    given = {
        "model": "nano", "context_tokens": 64, "batch_tokens": 16 * 64, "micro_batch_rows": 2, "precision": "bf16",
        "engine": "deepspeed", "deepspeed_config": str(workshop.folder / "ds_config.json"),
    }  # fmt: skip
    return deepspeed_settings(from_dict(TrainConfig, given), preset("nano"), processes=2, device_type="cuda")


def zero(seen) -> dict[str, Any]:
    """Its part about ZeRO."""
    return seen.value["zero_optimization"]


def extra(name: str, package: str) -> Callable[[Workshop], bool]:
    """Whether the extra brings the package."""

    def brings(workshop: Workshop) -> bool:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return any(line.startswith(f"{package}>=") for line in project["optional-dependencies"][name])

    return brings


STARTING = (
    row(
        "deepspeed",
        "deepspeed --num_gpus",
        here="`--nproc 8 --engine deepspeed`",
        note="`pip install 'mamba-slm[scale]'`; also `ddp` and `fsdp`; torchrun and the deepspeed launcher work, "
        "too: `deepspeed --num_gpus=8 --module "
        "mamba_slm.cli.main train …`; several machines: `--launcher slurm` or `--launcher ray`",
        run=f"{CLUSTER} --nproc 8 --engine deepspeed",
        holds=lambda seen: (
            seen.json["estimate"]["devices"] == 8 and seen.json["estimate"]["spread"]["engine"] == "deepspeed"
        ),
    ),
    row(
        "production_train.py --deepspeed_config",
        "ds_config.json",
        "zero_optimization",
        here="`--deepspeed-config ds_config.json`",
        note="may tune what the settings do not decide; the file that DeepSpeed got lies in the run",
        run=ds_config,
        holds=lambda seen: seen.value["train_batch_size"] == 16 and seen.value["gradient_accumulation_steps"] == 4,
    ),
    row(
        "stage",
        "zero_stage=3",
        "advice --zero_stage",
        here="`--zero-stage 3`",
        note="2 is the default",
        run=f"{CLUSTER} --nproc 8 --engine deepspeed --zero-stage 3",
        holds=setting(zero_stage=3),
    ),
    row(
        "offload_optimizer=True",
        "advice --offload_optimizer",
        "advice --offload_param",
        here="`--offload`",
        note="moments, and under ZeRO 3 the weights, too",
        run="models estimate 1.3B --gpus 8 --engine deepspeed --zero-stage 3 --offload --json",
        holds=lambda seen: seen.json["spread"]["offload"] and seen.json["memory"]["optimizer"] == 0,
    ),
    row(
        "overlap_comm",
        here="as it is, in the file",
        run=ds_config,
        holds=lambda seen: zero(seen)["overlap_comm"] is True,
    ),
    row(
        "contiguous_gradients",
        here="as it is, in the file",
        run=ds_config,
        holds=lambda seen: zero(seen)["contiguous_gradients"] is True,
    ),
    row(
        "bf16",
        "enabled",
        here="refused in the file; `--precision bf16` instead",
        note="DeepSpeed's `bf16` would round all weights, A_log and dt_bias of the scan among them; `torch_autocast` "
        "does not",
        run="train nano --data shards --nproc 2 --engine deepspeed --deepspeed-config ds_bf16.json --max-steps 1 "
        "--out runs/refused",
        exits=2,
        holds=says("bf16", "torch_autocast"),
    ),
    row(
        "MASTER_ADDR",
        "MASTER_PORT",
        "WORLD_SIZE",
        here="nothing: `--nproc`, torchrun, `--launcher slurm` and `--launcher ray` set them",
        note="set by hand with RANK they are used as torch does",
        run=SLURM,
        holds=says("MASTER_ADDR=$(scontrol", "MASTER_PORT=", "WORLD_SIZE=$SLURM_NTASKS", "#SBATCH --nodes=4"),
    ),
    row(
        "test_setup.py",
        here="`mamba-slm doctor --distributed --nproc 8`, and `mamba-slm doctor --train 1.3B` for the run itself",
        note="right sums, links, clocks, disk, before it costs money; exit code 6 when they cannot train together",
        run="doctor --train nano --data shards --batch-tokens 512 --context-tokens 256",
        holds=says("gradients", "reach all", "this run can start"),
    ),
)

ADVICE = (
    row(
        "dataloader_num_workers=16",
        "advice --dataloader_num_workers",
        here="nothing: shards are read by mapping files, and rows are known without reading others",
        note="`--prefetch-batches` is how far a thread reads ahead",
        run=TRAIN,
        holds=setting(prefetch_batches=2),
    ),
    row(
        "advice --dataloader_prefetch_factor",
        here="`--prefetch-batches 4`",
        run=f"{TRAIN} --prefetch-batches 4",
        holds=setting(prefetch_batches=4),
    ),
    row(
        "advice --disable_tqdm",
        "advice --log_level",
        here="`--quiet`",
        note="off a terminal there are plain lines and no bar in any case",
        run="runs list --quiet",
        holds=lambda seen: seen.err == "",
    ),
    row(
        "nvidia-smi",
        here="the lines of `train` say the share of the peak (MFU); `--profile-steps 10:20` says where time goes",
        note="a GPU that is busy may still do little",
        run=TRAIN,
        holds=lambda seen: "MFU" in seen.json["estimate"]["how"] or "not measured" in seen.json["estimate"]["how"],
    ),
)

SETTING_UP = (
    row(
        "pip",
        "git",
        "python -m venv",
        "source",
        "requirements.txt",
        here="`make quickstart`, which sets up `.venv` with the pinned versions",
        note="or `pip install -c constraints.txt -e .`; no CUDA build step",
        run=lambda workshop: (REPOSITORY / "Makefile").read_text(encoding="utf-8"),
        holds=lambda seen: (
            "constraints.txt -e ." in seen.value.replace("$(PIP) --no-build-isolation", "constraints.txt")
        ),
    ),
    row(
        "torch",
        here="2.11 or newer; a base requirement",
        note="the original's 2.1.0 has no FlexAttention and no FSDP2",
        run=CHECKED,
        holds=says('"torch"'),
    ),
    row("transformers", here="`pip install 'mamba-slm[hf]'`", run=extra("hf", "transformers"), holds=true),
    row(
        "datasets",
        "accelerate",
        here="`pip install 'mamba-slm[finetune]'`",
        note="pretraining needs neither",
        run=extra("finetune", "datasets"),
        holds=true,
    ),
    row(
        "flash-attn",
        here="nothing: PyTorch's own attention, which is FlashAttention on a GPU",
        note="and our kernels in Triton; untried on a GPU",
        run=CHECKED,
        holds=says("kernels"),
    ),
    row("peft", here="`pip install 'mamba-slm[finetune]'`", run=extra("finetune", "peft"), holds=true),
    row("lm-eval", here="`pip install 'mamba-slm[eval]'`", run=extra("eval", "lm-eval"), holds=true),
)

SIZES = tuple(
    row(
        name,
        here=f"`mamba-slm models describe {name}`",
        note=note,
        run=f"train {name} --data shards --max-steps 1 --dry-run --json",
        holds=model(hidden_size=width),
    )
    for name, width, note in (
        ("1.3B", 2048, "1.44B, as published"),
        ("2.7B", 2560, "2.54B; published 2.56B"),
        ("6.7B", 4096, "5.95B; published 5.96B"),
        ("13B", 5120, "10.7B; published 10.66B"),
    )
)

SECTIONS = (
    Section(
        title="Sizes",
        about="All four have their published layers, width, heads and placement of attention; tables are made of exact "
        "counts. Names are those of the original, counts beside them its own and ours.",
        rows=SIZES,
    ),
    Section(
        title="Several devices",
        rows=STARTING,
        blocks=(
            ("deepspeed --num_gpus=8 test_setup.py", "mamba-slm doctor --distributed --nproc 8"),
            (
                "deepspeed --num_gpus=16 production_launch.py, large_scale",
                "mamba-slm train large_scale --data mixture.yaml --engine deepspeed --zero-stage 3 --launcher slurm "
                "--slurm.nodes 2 --slurm.gpus-per-node 8 --out runs/6.7b",
            ),
        ),
    ),
    Section(title="Advice", about="What the troubleshooting sections tell to change.", rows=ADVICE),
    Section(title="Setting up", rows=SETTING_UP),
)
