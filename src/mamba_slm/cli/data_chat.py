"""`mamba-slm data inspect --as chat|mask`: conversations as fine-tuning reads them, and what it would learn."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamba_slm.cli import console
from mamba_slm.core.errors import ConfigError

if TYPE_CHECKING:
    from mamba_slm.data.conversations.example import Conversation, Examples
    from mamba_slm.finetuning.examples import Encoded
    from mamba_slm.text.tokenizer import Tokenizer

VIEWS = ("chat", "mask")


def add_chat_view(parser: argparse.ArgumentParser) -> None:
    """The flags that only conversations have."""
    group = parser.add_argument_group("conversations")
    group.add_argument(
        "--as",
        dest="view_as",
        choices=VIEWS,
        help="read INPUT, which may also be a data set of the hub (OWNER/NAME), as conversations: chat counts them and "
        "shows one, mask shows which of its tokens fine-tuning learns",
    )
    group.add_argument(
        "--form", metavar="NAME", help="how they are written, such as alpaca; default: told by themselves"
    )
    group.add_argument("--split", metavar="NAME", help="of a folder or data set with several")
    group.add_argument(
        "--template", metavar="NAME", default="auto", help="auto: that of the folder of --tokenizer; chatml; or a file"
    )
    group.add_argument("--number", type=int, default=1, metavar="N", help="which example is shown, from 1")


def run_chat_view(args: argparse.Namespace, tokenizer: Tokenizer | None) -> int:
    """Count conversations, and show one."""
    from mamba_slm.data.conversations.read import read_conversations

    if args.input is None:
        raise ConfigError("no conversations to inspect", hint=f"mamba-slm data inspect FILE --as {args.view_as}")
    if args.view_as == "mask" and tokenizer is None:
        raise ConfigError("--as mask shows tokens: it needs --tokenizer", hint="--tokenizer MODEL")
    read = read_conversations(args.input, form=args.form, split=args.split, say=console.say)
    if not 1 <= args.number <= len(read):
        raise ConfigError(f"there is no example {args.number}: there are {len(read):,}", hint="--number 1")
    chosen = read.items[args.number - 1]
    encoded, shown = None, as_text(chosen)
    if tokenizer is not None:
        from mamba_slm.finetuning.examples import encode_conversations, encode_one
        from mamba_slm.finetuning.mask_check import mask_shown
        from mamba_slm.finetuning.template import choose_template

        path = Path(args.tokenizer)
        template = choose_template(path if path.is_dir() else path.parent, tokenizer, args.template)
        console.say(str(template))
        encoded = encode_conversations(
            read.items, template.tokenizer, template.text, context_tokens=sys.maxsize, say=console.say
        )
        if args.view_as == "mask":
            example = encode_one(chosen, template.tokenizer, template.text, "answers")
            shown = mask_shown(
                example, template.tokenizer, colour=console.coloured("", "green", stream=sys.stdout) != ""
            )
    counts = statistics_of(read, encoded)
    if args.json:
        console.print_json(counts)
    elif args.view_as == "mask":
        print(shown)
    else:
        print("\n".join(f"{name:<18}{value}" for name, value in readable(counts)), shown, sep="\n\n")
    return 0


def statistics_of(read: Examples[Conversation], encoded: Encoded | None) -> dict[str, Any]:
    """What `--json` prints."""
    from mamba_slm.data.inspect import percentiles

    counts: dict[str, Any] = {
        "source": read.source,
        "form": read.form,
        "conversations": len(read),
        "messages": percentiles([len(one.messages) for one in read.items]),
        "roles": dict(Counter(message["role"] for one in read.items for message in one.messages)),
        "left_out": dict(Counter(problem.kind for problem in read.problems)),
        "problems": [str(problem) for problem in read.problems],
        "unread_fields": dict(read.unread),
    }
    if encoded is not None:
        counts["tokens"] = encoded.num_tokens
        counts["learned_tokens"] = encoded.num_trained
        counts["tokens_per_conversation"] = percentiles([len(example.tokens) for example in encoded.examples])
    return counts


def readable(counts: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for people: names and values."""
    from mamba_slm.data.inspect import percentile_text

    rows = [
        ("form", counts["form"]),
        ("conversations", f"{counts['conversations']:,}"),
        ("messages", percentile_text(counts["messages"])),
        ("roles", ", ".join(f"{count:,} {role}" for role, count in counts["roles"].items())),
        ("left out", ", ".join(f"{count:,} {kind}" for kind, count in counts["left_out"].items()) or "none"),
    ]
    if "tokens" in counts:
        share = counts["learned_tokens"] / counts["tokens"]
        rows += [
            ("tokens", f"{counts['tokens']:,}, of which {counts['learned_tokens']:,} ({share:.0%}) are learned"),
            ("tokens each", percentile_text(counts["tokens_per_conversation"])),
        ]
    return rows


def as_text(conversation: Conversation) -> str:
    """One conversation as it was read."""
    return "\n".join([conversation.origin, *(f"{one['role']}: {one['content']}" for one in conversation.messages)])
