"""`mamba-slm models`: the named sizes, what one is made of, and what it costs to train. No torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import UsageError
from mamba_slm.core.units import format_bytes, format_count, parse_count, three_digits

if TYPE_CHECKING:
    from mamba_slm.model.config import ModelConfig
    from mamba_slm.model.portability import PortabilityIssue

LAYOUTS = ("portable", "classic")
PLACEMENT_HELP = "early-mid-top (default), even, top, or a list such as 1,2,11,23"
CONTEXTS = "2Ki,8Ki,32Ki,128Ki"

EPILOG = """\
examples:
  mamba-slm models list
  mamba-slm models describe 1.3B
  mamba-slm models estimate 1.3B --gpus 8 --gpu "H100 80GB" --tokens 30B
"""

LIST_EPILOG = """\
A preset's vocabulary follows the tokenizer when one is given, and its parameter count with it.

examples:
  mamba-slm models list
  mamba-slm models list --layout classic
  mamba-slm models list --json
"""

DESCRIBE_EPILOG = """\
The attention-only twin has attention in every layer and is otherwise the same; its keys and values are what a
hybrid saves. Memory is for one conversation, with keys and values in BF16 and the state of the Mamba layers in FP32.

examples:
  mamba-slm models describe nano
  mamba-slm models describe 1.3B --layout classic --context 4Ki,64Ki
  mamba-slm models describe 125M --attention-share 20% --placement even --json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm models` and its subcommands."""
    from mamba_slm.cli import models_estimate

    parser.epilog = EPILOG
    commands = parser.add_subparsers()

    listing = commands.add_parser("list", help="every preset in one table", epilog=LIST_EPILOG)
    listing.description = "Every preset with its exact size."
    listing.add_argument("--layout", choices=LAYOUTS, help="show all presets in this layout; default: each in its own")
    listing.add_argument("--json", action="store_true", help="a list of objects")

    described = commands.add_parser(
        "describe", help="layers, parameters, memory per conversation", epilog=DESCRIBE_EPILOG
    )
    described.description = "What one model is made of, and what a conversation with it keeps in memory."
    add_model_arguments(described)
    described.add_argument(
        "--context", default=CONTEXTS, metavar="N,N", help=f"lengths of the conversation in tokens, default {CONTEXTS}"
    )
    described.add_argument("--json", action="store_true", help="one object")

    estimated = commands.add_parser("estimate", help="memory, time and cost of training it")
    add_model_arguments(estimated, named="a preset of `mamba-slm models list`, or a published run such as small_scale")
    models_estimate.configure(estimated)


def add_model_arguments(parser: argparse.ArgumentParser, named: str = "a preset of `mamba-slm models list`") -> None:
    """NAME and the options that change a preset's layers or vocabulary."""
    from mamba_slm.core.values import parse_float

    parser.add_argument("name", metavar="NAME", help=named)
    parser.add_argument("--layout", choices=LAYOUTS, help="default: the preset's own")
    parser.add_argument(
        "--vocab-size", type=parse_count, metavar="N", help="rows of the embedding; default: the preset's"
    )
    parser.add_argument("--attention-share", type=parse_float, metavar="X", help="share of the layers, default 0.35")
    parser.add_argument("--placement", metavar="HOW", help=PLACEMENT_HELP)
    parser.add_argument("--pattern", metavar="PATTERN", help="replace the layers: M mamba, * attention, - feed-forward")


def config_of(args: argparse.Namespace) -> ModelConfig:
    """The model that the arguments of `add_model_arguments` name."""
    from mamba_slm.model.presets import preset

    if args.pattern is not None and (args.placement is not None or args.attention_share is not None):
        raise UsageError("--pattern says itself where attention is", hint="leave out --placement and --attention-share")
    return preset(
        args.name,
        layout=args.layout,
        vocab_size=args.vocab_size,
        attention_share=args.attention_share,
        placement=args.placement,
        pattern=args.pattern,
    )


def layout_of(args: argparse.Namespace) -> str:
    """The layout that was asked for, else the preset's own."""
    from mamba_slm.model.presets import SIZES

    return args.layout or SIZES[args.name].layout


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    if args.subcommand == "list":
        print_list(args)
    elif args.subcommand == "describe":
        print_description(args)
    else:
        from mamba_slm.cli import models_estimate, models_estimate_finetune

        if args.task != "train":
            config = config_of(args)
            return models_estimate_finetune.run(args, config, facts(args.name, config, layout_of(args)))
        published = models_estimate.take_published_run(args)
        config = config_of(args)
        return models_estimate.run(args, config, facts(args.name, config, layout_of(args)), published)
    return 0


def facts(name: str, config: ModelConfig, layout: str) -> dict[str, Any]:
    """What `--json` says about a model; the first eight keys are part of the interface."""
    from mamba_slm.model.count import count_parameters, weight_bytes
    from mamba_slm.model.pattern import is_portable_pattern

    return {
        "name": name,
        "parameters": count_parameters(config).total,
        "layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "bf16_bytes": weight_bytes(config),
        "pattern": config.pattern,
        "layout": layout,
        "portable": is_portable_pattern(config.pattern),
        "attention_layers": config.num_attention,
        "feed_forward_size": config.feed_forward_size,
        "vocab_size": config.vocab_size,
        "max_context_tokens": config.max_context_tokens,
        "tie_embeddings": config.tie_embeddings,
    }


def print_list(args: argparse.Namespace) -> None:
    """The table of presets."""
    from mamba_slm.model.presets import SIZES, preset

    rows = []
    for name, size in SIZES.items():
        layout = args.layout or size.layout
        rows.append({**facts(name, preset(name, layout=layout), layout), "purpose": size.purpose})
    if args.json:
        console.print_json(rows)
        return
    header = [
        "name",
        "parameters",
        "BF16",
        "layers",
        "attention",
        "d",
        "heads/KV",
        "FFN",
        "vocabulary",
        "layout",
        "for",
    ]
    print(
        console.table(
            header,
            [
                [
                    row["name"],
                    format_count(row["parameters"]),
                    format_bytes(row["bf16_bytes"]),
                    row["layers"],
                    row["attention_layers"],
                    row["hidden_size"],
                    f"{row['num_heads']}/{row['num_kv_heads']}",
                    row["feed_forward_size"],
                    f"{row['vocab_size']:,}",
                    row["layout"] + (", tied" if row["tie_embeddings"] else ""),
                    row["purpose"],
                ]
                for row in rows
            ],
            right=header[1:9],
        )
    )


def print_description(args: argparse.Namespace) -> None:
    """One model: layers, parameters by part, memory of a conversation."""
    from dataclasses import asdict, replace

    from mamba_slm.model.count import count_parameters, forward_flops_per_token, state_bytes
    from mamba_slm.model.pattern import ATTENTION, MAMBA, mixers
    from mamba_slm.model.portability import portability_issues

    config = config_of(args)
    twin = replace(config, pattern=config.pattern.replace(MAMBA, ATTENTION))
    contexts = [parse_count(word) for word in args.context.split(",")]
    memory = [
        {"context_tokens": n, "bytes": state_bytes(config, n), "attention_only_bytes": state_bytes(twin, n)}
        for n in contexts
    ]
    parts = asdict(count_parameters(config))
    layers = mixers(config.pattern)
    attention = [index for index, mixer in enumerate(layers) if mixer == ATTENTION]
    described = facts(args.name, config, layout_of(args))
    flops = forward_flops_per_token(config, config.max_context_tokens)
    issues = portability_issues(config)
    if args.json:
        console.print_json(
            {
                **described,
                "attention_at": attention,
                "parameters_by_part": parts,
                "forward_flops_per_token": flops,
                "portability_issues": [asdict(issue) for issue in issues],
                "conversation_memory": memory,
            }
        )
        return

    size, weights = format_count(described["parameters"]), format_bytes(described["bf16_bytes"])
    where = ", ".join(map(str, attention)) or "none"
    tied = "tied" if config.tie_embeddings else "untied"
    print(f"{args.name}: {size} parameters, {weights} in BF16")
    print(f"pattern      {config.pattern}")
    print(f"layer map    {layers}  ({len(layers)} layers; M mamba, * attention at {where})")
    print(
        f"sizes        d {config.hidden_size}, {config.num_heads} heads, {config.num_kv_heads} KV heads of "
        f"{config.head_dim}, {config.num_ssm_heads} SSM heads of {config.ssm_head_dim} with state {config.state_size}, "
        f"feed-forward {config.feed_forward_size}"
    )
    print(f"vocabulary   {config.vocab_size:,} ({tied}), context {config.max_context_tokens:,} ({config.position})")
    print("parameters   " + ", ".join(f"{name} {format_count(count)}" for name, count in parts.items() if count))
    print(f"forward      {three_digits(flops / 1e9)} GFLOP per token, averaged over a full context")
    print(f"portable     {portable_in_words(issues)}")
    for issue in issues:
        print(f"             {issue}")
    print("\nmemory of one conversation")
    header = ["context", "this hybrid", "attention only", "saved"]
    rows = [
        [
            f"{row['context_tokens']:,}",
            format_bytes(row["bytes"]),
            format_bytes(row["attention_only_bytes"]),
            f"{1 - row['bytes'] / row['attention_only_bytes']:.0%}",
        ]
        for row in memory
    ]
    print(console.table(header, rows, right=header))
    constant = state_bytes(config, 0)
    per_token = state_bytes(config, 1) - constant
    print(f"constant {format_bytes(constant)} (SSM state, convolution), plus {format_bytes(per_token)} per token")


def portable_in_words(issues: list[PortabilityIssue]) -> str:
    """Where the model would run after an export, in a few words."""
    lost = {name for issue in issues if issue.effect == "lost" for name in issue.runtimes}
    if lost:
        return f"no: lost in {', '.join(sorted(lost))}"
    return "yes, in every runtime that loads GraniteMoeHybrid" + (", but:" if issues else "")
