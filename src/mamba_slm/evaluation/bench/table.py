"""The results as rows for a screen, and what to say about the machine. From the results alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mamba_slm.evaluation.bench.names import label

HEADER = (
    "task",
    "tokens",
    "batch",
    "precision",
    "contender",
    "tokens/s",
    "ours ×",
    "share",
    "loaded MiB",
    "peak MiB",
    "state MiB",
    "rounds",
    "differs",
)
RIGHT = tuple(name for name in HEADER if name not in ("task", "precision", "contender"))
EXPLANATION = """\
tokens/s of all sequences of a batch together
ours ×   median over the rounds of the contender's time over ours: above 1, ours is faster
share    of the machine: FLOP/s over those of the model's matrix products alone in that precision (train, prefill);
         bytes that a step must touch, weights, state, keys and values, over the bandwidth of reading as many (decode)
loaded   resident memory before the first step, weights and libraries included
peak     most resident memory from then on (decode: from when the prompt was read)
state    what one sequence keeps when the prompt was read, unused room included (decode)
rounds   that were timed, after one that was not
differs  from ours, relative: loss and gradient norm (train), last logits (prefill, decode)"""
LIMITS_HEADER = ("threads", "matrix products, GFLOP/s", "reading, GB/s", "in ordinary pages")
IDLE_LOAD = 0.5
BUSY_CORES = 0.1


def table_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    """The cells under HEADER; a cell is named in its first row only."""
    for cell in results["cells"]:
        for number, row in enumerate(cell["rows"]):
            name = [cell["task"], f"{cell['tokens']:,}", str(cell["batch"]), cell["precision"]]
            contender = row["contender"]
            difference = cell["relative_difference"].get(contender)
            if contender == "granite":
                difference = cell["agreement"]["relative_difference"]
            yield [
                *(name if number == 0 else [""] * len(name)),
                label(contender),
                speed(row["tokens_per_second"]),
                f"{row['ours_times_as_fast']:.2f}",
                share(row),
                f"{row['loaded_bytes'] / 2**20:,.0f}",
                f"{row['peak_bytes'] / 2**20:,.0f}",
                state_size(row),
                str(len(row["seconds_by_round"])),
                "" if difference is None else f"{difference:.0e}",
            ]


def share(row: dict[str, Any]) -> str:
    """A share of the machine, or nothing where there is no such limit here."""
    return "" if row["share_of_machine"] is None else f"{row['share_of_machine']:.0%}"


def state_size(row: dict[str, Any]) -> str:
    """MiB that a sequence keeps; nothing where there is no state or nobody knows."""
    kept = row.get("conversation_bytes")
    return "" if kept is None else f"{kept / 2**20:.1f}"


def limit_rows(results: dict[str, Any]) -> Iterator[list[str]]:
    """The limits under LIMITS_HEADER, one row per number of threads."""
    limits = results["limits"]
    for products in limits["products"]:
        threads = products["threads"]
        rates = [f"{kind} {rate / 1e9:,.0f}" for kind, rate in products.items() if kind != "threads"]
        read = {
            huge: ", ".join(
                f"{row['bytes'] / 1e6:,.0f} MB: {row['bytes_per_second'] / 1e9:.0f}"
                for row in limits["reading"]
                if row["threads"] == threads and row["huge_pages"] == huge
            )
            for huge in (True, False)
        }
        yield [str(threads), ", ".join(rates), read[True], read[False]]


def limits_in_words(results: dict[str, Any]) -> str:
    """What the table of limits shows."""
    limits = results["limits"]
    gpu = limits["gpu"]
    on_gpu = (
        f"; {gpu['name']}: bf16 products {gpu['bf16_flops_per_second'] / 1e12:.0f} TFLOP/s, copies "
        f"{gpu['copy_bytes_per_second'] / 1e9:,.0f} GB/s"
        if gpu
        else ""
    )
    return (
        f"limits of this machine: square products of {limits['square']:,}; reading buffers of the size of the weights "
        f"in fp32, bf16, int8 and int4, in pages of 2 MiB and in ordinary ones{on_gpu}"
    )


def flatness(results: dict[str, Any]) -> dict[str, float]:
    """Slowest over fastest tokens/s of prefill over the lengths, by contender and precision of the cell.

    Contenders that were measured at one length only are left out.
    """
    speeds: dict[str, list[float]] = {}
    for cell in results["cells"]:
        for row in cell["rows"] if cell["task"] == "prefill" else ():
            name = label(row["contender"]) + ("" if cell["precision"] == "fp32" else f", {cell['precision']}")
            speeds.setdefault(name, []).append(row["tokens_per_second"])
    return {name: min(each) / max(each) for name, each in speeds.items() if len(each) > 1}


def left_out_lines(results: dict[str, Any]) -> Iterator[str]:
    """What was planned and not measured, with the reason."""
    for cell in results["cells"]:
        for name in cell["apart"]:
            where = f"{cell['task']}, {cell['tokens']:,} tokens, {label(name)}"
            yield f"{where}: not in turns with the others but after them, since memory does not hold all"
        for name, reason in cell["left_out"].items():
            yield f"{cell['task']}, {cell['tokens']:,} tokens, without {label(name)}: {reason}"
    for cell in results["left_out"]:
        yield f"{cell['task']}, {cell['tokens']:,} tokens: {cell['reason']}"


def speed(tokens_per_second: float) -> str:
    """Three digits or more.

    >>> speed(1234.5), speed(31.26)
    ('1,234', '31.3')
    """
    return f"{tokens_per_second:,.0f}" if tokens_per_second >= 100 else f"{tokens_per_second:.1f}"


def machine_remarks(results: dict[str, Any]) -> Iterator[str]:
    """Warnings for a machine that did something else meanwhile."""
    if results["load_average"] > IDLE_LOAD:
        yield f"the machine was not idle at the start: load average {results['load_average']:.1f}"
    busy = [cell for cell in results["cells"] if (cell["busy_elsewhere_cores"] or 0.0) > BUSY_CORES]
    if busy:
        worst = max(busy, key=lambda cell: cell["busy_elsewhere_cores"])
        yield (
            f"other programs kept more than {BUSY_CORES} cores busy during {len(busy)} of {len(results['cells'])} "
            f"cells, at most {worst['busy_elsewhere_cores']:.1f} ({worst['task']}, {worst['tokens']:,} tokens)"
        )
