"""Our generation beside transformers' `generate` on the same hybrid with the same weights, in turns, in one process.

python benchmarks/generation.py                       60M, 128 tokens of prompt, 32 new ones, one thread
python benchmarks/generation.py --threads 2 --rounds 5
python benchmarks/generation.py --model nano --new-tokens 4 --rounds 1     a quick look

With one thread CPU time is measured, which other programs on the machine disturb less; with more, wall time.

Contrastive search is not in transformers any more; beside ours stands the published loop (SimCTG) with transformers'
model and cache, which is forked with `reorder_cache`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import torch  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.core.native import missing_for_native  # noqa: E402
from mamba_slm.evaluation.bench.peers import granite  # noqa: E402
from mamba_slm.generation.compiled.runtime import CompiledRuntime  # noqa: E402
from mamba_slm.generation.generate import generate  # noqa: E402
from mamba_slm.generation.runtime import Runtime, TorchRuntime  # noqa: E402
from mamba_slm.generation.sampling import Sampler  # noqa: E402
from mamba_slm.generation.strategies.beam import BeamSearch  # noqa: E402
from mamba_slm.generation.strategies.contrastive import ContrastiveSearch  # noqa: E402
from mamba_slm.model.init import build_model  # noqa: E402
from mamba_slm.model.presets import preset  # noqa: E402

BEAMS, CANDIDATES, ALPHA = 4, 4, 0.6
Way = Callable[[int], list[int]]
"""So many new tokens."""


def our_ways(runtime: Runtime[Any], prompt: list[int]) -> dict[str, Way]:
    """By name."""

    def way(**settings: Any) -> Way:
        return lambda count: list(generate(runtime, [prompt], max_new_tokens=count, **settings).completions[0].tokens)

    return {
        "greedy": way(),
        "sampling": way(sampler=Sampler.from_settings(temperature=0.8, top_k=50, top_p=0.95)),
        f"beam {BEAMS}": way(strategy=BeamSearch(beams=BEAMS)),
        f"contrastive {CANDIDATES}": way(strategy=ContrastiveSearch(k=CANDIDATES, alpha=ALPHA)),
    }


def their_ways(model: Any, prompt: list[int]) -> dict[str, Way]:
    """By the same names."""
    tokens = torch.tensor([prompt])

    def way(**settings: Any) -> Way:
        def run(count: int) -> list[int]:
            made = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=count,
                eos_token_id=None,
                pad_token_id=0,
                **settings,
            )
            return made[0, len(prompt) :].tolist()

        return run

    return {
        "greedy": way(do_sample=False),
        "sampling": way(do_sample=True, temperature=0.8, top_k=50, top_p=0.95),
        f"beam {BEAMS}": way(do_sample=False, num_beams=BEAMS),
        f"contrastive {CANDIDATES}": lambda count: their_contrastive(model, tokens, count),
    }


@torch.inference_mode()
def their_contrastive(model: Any, tokens: torch.Tensor, count: int) -> list[int]:
    """The published loop: read the k candidates as k rows, keep the row that is chosen."""
    read = model(tokens, use_cache=True, output_hidden_states=True)
    cache, logits, context = read.past_key_values, read.logits[0, -1], read.hidden_states[-1][0]
    made: list[int] = []
    cache.reorder_cache(torch.zeros(CANDIDATES, dtype=torch.int64))
    for _ in range(count):
        probabilities, candidates = logits.softmax(-1).topk(CANDIDATES)
        read = model(candidates[:, None], past_key_values=cache, use_cache=True, output_hidden_states=True)
        hidden = read.hidden_states[-1][:, -1]
        unit, before = (torch.nn.functional.normalize(part, dim=-1) for part in (hidden, context))
        scores = (1 - ALPHA) * probabilities - ALPHA * (unit @ before.T).amax(dim=-1)
        place = int(scores.argmax())
        made.append(int(candidates[place]))
        logits, context = read.logits[place, -1], torch.cat([context, hidden[place : place + 1]])
        cache.reorder_cache(torch.full((CANDIDATES,), place))
    return made


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="60M")
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = build_model(preset(args.model), seed=0)
    runtime = TorchRuntime(source) if missing_for_native() else CompiledRuntime(source)
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(4, source.config.vocab_size, (args.prompt_tokens,), generator=generator).tolist()
    ours, theirs = our_ways(runtime, prompt), their_ways(granite(source, precision="fp32").model, prompt)
    print(
        f"{args.model}, {runtime.description}; {args.prompt_tokens} + {args.new_tokens} tokens, {args.threads} threads"
    )
    clock = time.process_time if args.threads == 1 else time.perf_counter
    rows: list[list[str]] = []
    header = ["way", "ours tok/s", "transformers tok/s", "×", "rounds", "same first tokens"]
    for name in ours:
        same = ours[name](4) == theirs[name](4)  # also the call that is not counted
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(args.rounds):
            for whose, way in (("ours", ours[name]), ("theirs", theirs[name])):
                started = clock()
                way(args.new_tokens)
                seconds[whose].append(clock() - started)
        ratios = [their / our for our, their in zip(seconds["ours"], seconds["theirs"], strict=True)]
        speeds = [f"{args.new_tokens / statistics.median(seconds[whose]):.1f}" for whose in ("ours", "theirs")]
        rows.append([name, *speeds, f"{statistics.median(ratios):.1f}", f"{min(ratios):.1f} to {max(ratios):.1f}",
                     "drawn" if name == "sampling" else "yes" if same else "no"])  # fmt: skip
        print(rows[-1][:4], file=sys.stderr, flush=True)
    print(table(header, rows, right=header[1:4]))


if __name__ == "__main__":
    main()
