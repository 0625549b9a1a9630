"""What the engine adds to a model: decoding beside `generate`'s batches, prompts read together beside one by one.

python benchmarks/engine.py                             60M in fp32 and INT8, 1 to 64 requests, one thread, CPU time
python benchmarks/engine.py --model nano --rows 1,4 --tokens 3 --rounds 1     a quick look
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

from mamba_slm.core.threads import spin_briefly

spin_briefly()  # before torch is loaded

import torch  # noqa: E402

from mamba_slm.cli.console import table  # noqa: E402
from mamba_slm.core.native import missing_for_native  # noqa: E402
from mamba_slm.generation.compiled.runtime import CompiledRuntime  # noqa: E402
from mamba_slm.generation.generate import generate  # noqa: E402
from mamba_slm.generation.runtime import Runtime, TorchRuntime  # noqa: E402
from mamba_slm.model.init import build_model  # noqa: E402
from mamba_slm.model.packed import nearest_model  # noqa: E402
from mamba_slm.model.presets import preset  # noqa: E402
from mamba_slm.model.quantization import PLANS  # noqa: E402
from mamba_slm.ops.native.start import start_native_kernels  # noqa: E402
from mamba_slm.serving.engine.core import EngineCore  # noqa: E402
from mamba_slm.serving.engine.opening import open_engine  # noqa: E402
from mamba_slm.serving.engine.request import Answer, EngineRequest  # noqa: E402
from mamba_slm.serving.engine.settings import EngineSettings  # noqa: E402

clock = time.process_time
HEADER = ["weights", "requests", "step ms", "tok/s", "× time of generate", "reading ms", "× one by one", "× generate"]


def submitted(
    runtime: Runtime[Any], prompts: list[list[int]], new_tokens: int
) -> tuple[EngineCore, list[list[Answer]]]:
    """An engine that has got these requests and done nothing, and where their answers will be."""
    room = sum(map(len, prompts)) + len(prompts) + 1
    core = open_engine(runtime, EngineSettings(max_running=len(prompts), step_tokens=room))
    answers: list[list[Answer]] = [[] for _ in prompts]
    for prompt, into in zip(prompts, answers, strict=True):
        core.submit(EngineRequest(prompt=tuple(prompt), max_new_tokens=new_tokens, use_cache=False), into.append)
    return core, answers


def measured(runtime: Runtime[Any], prompts: list[list[int]], tokens: int) -> dict[str, float]:
    """Seconds of one round."""
    took: dict[str, float] = {}

    def timed(name: str, started: float) -> float:
        took[name] = clock() - started
        return clock()

    started = clock()
    for prompt in prompts:
        submitted(runtime, [prompt], 1)[0].step()
    started = timed("one by one", started)
    core, answers = submitted(runtime, prompts, tokens + 1)
    started = clock()
    core.step()
    timed("reading", started)
    assert all(answers), "all prompts fit into one step"
    started = clock()
    while core.step():
        pass
    started = timed("decoding", started)
    generate(runtime, prompts, max_new_tokens=1)
    started = timed("generate reading", started)
    generate(runtime, prompts, max_new_tokens=tokens + 1)
    timed("generate", started)
    took["generate decoding"] = took["generate"] - took["generate reading"]
    return took


def main(argv: list[str] | None = None) -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="60M", help="preset, default 60M")
    parser.add_argument("--rows", default="1,4,16,64", help="requests at once, default 1,4,16,64")
    parser.add_argument("--weights", default="float32,int8", help="default float32,int8")
    parser.add_argument("--prompt-tokens", type=int, default=32, help="of each prompt, default 32")
    parser.add_argument("--tokens", type=int, default=24, help="made by each request, default 24")
    parser.add_argument("--rounds", type=int, default=3, help="default 3; medians are shown")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if missing_for_native() is None:
        start_native_kernels(lambda line: print(line, file=sys.stderr))
    plain = build_model(preset(args.model), seed=0).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    rows: list[list[str]] = []
    for weights in args.weights.split(","):
        model = plain if weights == "float32" else nearest_model(plain, PLANS[weights])
        runtime = CompiledRuntime(model) if missing_for_native() is None else TorchRuntime(model)
        for count in map(int, args.rows.split(",")):
            size = (count, args.prompt_tokens)
            prompts = torch.randint(4, plain.config.vocab_size, size, generator=generator).tolist()
            measured(runtime, prompts[:1], 1)  # what the first call alone pays
            rounds = [measured(runtime, prompts, args.tokens) for _ in range(args.rounds)]

            def median(name: str, beside: str | None = None, rounds: list[dict[str, float]] = rounds) -> float:
                return statistics.median(one[name] / (1 if beside is None else one[beside]) for one in rounds)

            step = median("decoding") / args.tokens
            rows.append([weights, str(count), f"{1000 * step:.1f}", f"{count / step:.0f}",
                         f"{median('decoding', 'generate decoding'):.2f}", f"{1000 * median('reading'):.0f}",
                         f"{median('one by one', 'reading'):.1f}",
                         f"{median('generate reading', 'reading'):.1f}"])  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    print(
        f"{args.model}, prompts of {args.prompt_tokens} tokens, one thread, CPU time; ×: more is faster, but for time"
    )
    print(table(HEADER, rows, right=HEADER[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
