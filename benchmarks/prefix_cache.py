"""How long the first token takes when the beginning of a prompt was read before, beside reading all of it.

python benchmarks/prefix_cache.py                                   60M, 2,000 tokens, 50 new ones, one thread, CPU time
python benchmarks/prefix_cache.py --model nano --tokens 300 --rounds 1     a quick look
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import torch  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.core.native import missing_for_native  # noqa: E402
from mamba_slm.generation.compiled.runtime import CompiledRuntime  # noqa: E402
from mamba_slm.generation.runtime import TorchRuntime  # noqa: E402
from mamba_slm.model.init import build_model  # noqa: E402
from mamba_slm.model.presets import preset  # noqa: E402
from mamba_slm.ops.native.start import start_native_kernels  # noqa: E402
from mamba_slm.serving.engine.core import EngineCore  # noqa: E402
from mamba_slm.serving.engine.opening import open_engine  # noqa: E402
from mamba_slm.serving.engine.request import EngineRequest, Piece  # noqa: E402
from mamba_slm.serving.engine.settings import EngineSettings  # noqa: E402


def first_token(core: EngineCore, prompt: list[int], *, use_cache: bool = True) -> tuple[float, int]:
    """Seconds of CPU time to the first token, and prompt tokens that were not read."""
    answers: list[Piece] = []
    request = EngineRequest(prompt=tuple(prompt), max_new_tokens=1, use_cache=use_cache)
    started = time.process_time()
    core.submit(request, answers.append)  # type: ignore[arg-type]
    while core.step():
        pass
    usage = answers[0].usage
    assert usage is not None
    return time.process_time() - started, usage.cached_tokens


def main(argv: list[str] | None = None) -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="60M", help="preset, default 60M")
    parser.add_argument("--tokens", type=int, default=2000, help="of the prompt, default 2,000")
    parser.add_argument("--new-tokens", type=int, default=50, help="behind the branch, default 50")
    parser.add_argument("--rounds", type=int, default=3, help="default 3; medians are shown")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    config = preset(args.model)
    if missing_for_native() is None:
        start_native_kernels(lambda line: print(line, file=sys.stderr))
    model = build_model(config, seed=0).eval().requires_grad_(False)
    runtime = CompiledRuntime(model) if missing_for_native() is None else TorchRuntime(model)
    generator = torch.Generator().manual_seed(0)

    def words(count: int) -> list[int]:
        return torch.randint(4, config.vocab_size, (count,), generator=generator).tolist()

    branches = [args.tokens * share // 40 for share in (39, 36, 20)]
    seconds: dict[str, list[float]] = {}
    reused: dict[str, int] = {}
    first_token(open_engine(runtime, EngineSettings()), words(64))  # what the first call alone pays
    for _ in range(args.rounds):
        core = open_engine(runtime, EngineSettings(step_tokens=args.tokens + 128, max_running=4))
        prompt = words(args.tokens)
        asked = [("cold, cache off", prompt, False), ("cold, states kept", prompt, True)]
        for at in branches:
            asked += [
                (f"branches at {at:,}, first time", [*prompt[:at], *words(args.new_tokens)], True),
                (f"branches at {at:,}, again", [*prompt[:at], *words(args.new_tokens)], True),
            ]
        for name, tokens, use_cache in [*asked, ("the same prompt", prompt, True)]:
            taken, reused[name] = first_token(core, tokens, use_cache=use_cache)
            seconds.setdefault(name, []).append(taken)
    cold = seconds["cold, cache off"]
    rows = [
        [
            name,
            f"{reused[name]:,}",
            f"{1000 * statistics.median(taken):.1f}",
            f"{statistics.median(whole / mine for whole, mine in zip(cold, taken, strict=True)):.1f}",
        ]
        for name, taken in seconds.items()
    ]
    print(f"{args.model}, {args.tokens:,} tokens, {runtime.description}, CPU time")
    print(table(["prompt", "reused tokens", "first token ms", "times as fast"], rows, right=["reused tokens"]))
    print(f"cache: {core.cache.counts}; {len(core.cache)} states, {core.cache.num_bytes / 2**20:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
