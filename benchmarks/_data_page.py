"""The stages of `benchmarks/data.py`, and the page of their results. From the results alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mamba_slm.core.units import format_bytes
from mamba_slm.runs.markdown import markdown_table

TOKEN_BYTES = 4.1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Our way, and those of others."""

    ours: str
    """Its name in `_data_ways.py`."""

    target: str
    """What was aimed at."""

    peers: tuple[str, ...] = ()
    """Names in `_data_peers.py`; those that begin with "dolma" run in dolma's own Python."""

    slow: bool = False
    """Whether our way, too, gets the small corpus."""


FORMATS = ("jsonl", "jsonl.zst", "jsonl.gz", "parquet")
STAGES = (
    *(
        Stage(
            ours=f"read .{name}",
            target="3 times datasets' streaming",
            peers=(
                f"datasets streaming, .{name}",
                *((f"datatrove, .{name}",) if name in ("jsonl.zst", "parquet") else ()),
            ),
        )
        for name in FORMATS
    ),
    Stage(
        ours="quality",
        target="15M tokens/s",
        peers=("dolma gopher_v1", "dolma c4_v2", "datatrove Gopher + C4 + FineWeb"),
    ),
    Stage(ours="language", target="15M tokens/s", peers=("pycld2, 1,000 characters", "pycld2, whole text")),
    Stage(
        ours="personal data",
        target="20M tokens/s",
        peers=("datatrove PIIFormatter (e-mail, IP)", "dolma pii_regex_with_counts_fast_v2"),
    ),
    Stage(ours="profanity", target="a fifth of what personal data cost"),
    Stage(ours="spam", target="a fifth of what personal data cost"),
    Stage(ours="benchmark questions", target="20M tokens/s"),
    Stage(ours="lines of many pages", target="20M tokens/s"),
    Stage(ours="near-duplicates", target="20M tokens/s"),
    Stage(ours="tokens", target="30 times tokenizers", peers=("tokenizers",)),
    Stage(ours="whole chain", target="4M tokens/s"),
)


def page(results: dict[str, Any]) -> str:
    """The page, from the results alone."""
    sections = []
    for stage in STAGES:
        rows = [row for row in results["rows"] if row["stage"] == stage.ours]
        if not rows:
            continue
        ours = next((row.get("tokens_per_second") for row in rows if row["way"] == "ours"), None)
        table = [
            [
                row["way"] + "".join(f" ({name} {number})" for name, number in sorted(row.get("versions", {}).items())),
                f"{row['tokens_per_second'] / 1e6:.3g}M" if "failed" not in row else "failed",
                f"{ours / row['tokens_per_second']:.1f}"
                if ours and "failed" not in row and row["way"] != "ours"
                else "",
                quality_in_words(row.get("quality")) or row.get("failed", ""),
            ]
            for row in rows
        ]
        header = ["way", "tokens/s", "×", "remarks"]
        command = rows[0].get("command", results["command"])
        another = "" if command == results["command"] else f"In another run: `{' '.join(command)}`.\n\n"
        sections.append(
            f"## {stage.ours[0].upper()}{stage.ours[1:]}\n\nAimed at: {stage.target}.\n\n{another}"
            + markdown_table(header, table, right=header[1:3])
        )
    facts = results["hardware"]
    return f"""\
# Speed of curation, per core

<!-- Written by `make bench-data`; do not edit. -->

One core of {facts["processor"]}, Python {results["python"]}; {results["num_texts"]:,} texts,
{format_bytes(results["text_bytes"])}, in pieces of at most {results["piece_characters"]:,} characters. Seconds of the
processor, the median of {results["rounds"]} rounds in turns, each in a fresh process with one thread; loading of
libraries and tables is left out. 1 token = {TOKEN_BYTES} bytes. *×*: rate of ours over that of the row.

```text
{" ".join(results["command"])}
```

{chr(10).join(section + chr(10) for section in sections)}"""


def quality_in_words(quality: dict[str, Any] | None) -> str:
    """Recall and wrong removals."""
    if not quality:
        return ""
    return (
        f"recall {quality['recall']:.4f} of {quality['true_pairs']:,} true pairs, {quality['wrong']} removed without a "
        "true duplicate"
    )
