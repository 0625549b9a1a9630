"""One contender in a process of its own, so that its peak memory is its own: `python -m` this, with a `Job` as JSON.

It answers each line on stdin with a line of JSON on stdout: `prove`, `round`, `memory`, `rates`. While others are timed
it waits for the next line and uses no core. It ends when stdin does.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.evaluation.bench.cells import Cell

PROVED_ONE_BY_ONE = 4
RATE, LIMITS = "rate", "limits"
"""Not contenders, but what the machine can do: beside them in every round, and once in a run."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker measures."""

    contender: str
    """One of `names`, or RATE or LIMITS."""

    model: str
    """A preset or a model folder."""

    context_tokens: int | None = None
    """As in `contenders.named_config`."""

    cell: Cell
    threads: int
    decode_tokens: int
    rounds: int = 1
    seed: int
    logits_file: str
    """Where to write the logits that prove the function, as .npy."""
    compiled: bool = False
    """Whether ours decodes with a compiled step."""
    exported: str | None = None
    """What an engine runs: a folder for ONNX Runtime, a file for llama.cpp."""

    def to_json(self) -> str:
        """For the command line of the worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The way back."""
        fields = json.loads(text)
        return cls(**{**fields, "cell": Cell(**fields["cell"])})


class RateWork:
    """Answers with rates instead of seconds."""

    def __init__(self, job: Job):
        self.job = job
        self.facts = {"unit": "bytes/s" if job.cell.task == "decode" else "FLOP/s"}

    def measure(self, names: list[str]) -> dict[str, Any]:
        """What the rounds measure from now on; one pass as warm-up."""
        from mamba_slm.evaluation.bench.contenders import named_config
        from mamba_slm.evaluation.bench.rates import MachineRates

        self.measured = MachineRates(named_config(self.job.model, self.job.context_tokens), self.job.cell, names)
        self.measured.rates()
        return {}

    def round(self) -> dict[str, Any]:
        """One measurement."""
        return {"rates": self.measured.rates()}


class LimitsWork:
    """Answers with the limits of the machine."""

    def __init__(self, job: Job):
        self.job = job
        self.facts: dict[str, Any] = {}

    def round(self) -> dict[str, Any]:
        """All limits; see there."""
        from mamba_slm.evaluation.bench.contenders import named_config
        from mamba_slm.evaluation.bench.limits import machine_limits

        return machine_limits(named_config(self.job.model), threads=self.job.threads, passes=self.job.rounds)


class ContenderWork:
    """One task of one contender."""

    def __init__(self, job: Job):
        import torch

        from mamba_slm.evaluation.bench.contenders import build_contender, named_config

        self.job = job
        is_training = job.cell.task == "train"
        precision = "fp32" if is_training else job.cell.precision
        config = named_config(job.model, job.context_tokens)
        self.contender: Any = None
        if job.exported is None:
            self.contender = build_contender(
                job.contender,
                job.model,
                context_tokens=job.context_tokens,
                seed=job.seed,
                precision=precision,
                compiled=job.compiled,
                inference=not is_training,
            )
        else:
            from mamba_slm.evaluation.bench.engines import build_engine

            self.contender = build_engine(
                job.contender,
                Path(job.exported),
                config=config,
                threads=job.threads,
                max_tokens=job.cell.tokens + job.decode_tokens + 1,
            )
        generator = torch.Generator().manual_seed(job.seed)
        self.tokens = torch.randint(config.vocab_size, (job.cell.batch, job.cell.tokens), generator=generator)
        if is_training:
            self.contender.prepare_training(job.cell.precision)
        self.facts = {
            "parameters": self.contender.parameters,
            "settings": self.contender.settings,
            "weight_bytes": getattr(self.contender, "weight_bytes", None),
        }

    def prove(self) -> dict[str, Any]:
        """Numbers that every implementation of the same function must share; this is the warm-up as well."""
        if self.job.cell.task == "train":
            loss, norm = self.contender.train_step(self.tokens)
            return {"loss": loss, "gradient_norm": norm}
        import numpy

        one_by_one = PROVED_ONE_BY_ONE if self.job.cell.task == "decode" else 0
        logits = self.contender.last_logits(self.tokens, min(one_by_one, self.job.cell.tokens - 1))
        numpy.save(self.job.logits_file, logits.numpy())
        if one_by_one:
            self.contender.decode(self.job.decode_tokens)
        return {}

    def memory(self) -> dict[str, Any]:
        """The most that was resident; in decoding also what is kept per sequence."""
        memory: dict[str, Any] = {"peak_bytes": status_bytes("VmHWM")}
        if self.job.cell.task == "decode":
            kept = self.contender.kept_bytes()
            memory["conversation_bytes"] = None if kept is None else kept // self.job.cell.batch
        return memory

    def round(self) -> dict[str, Any]:
        """Seconds of one round."""
        if self.job.cell.task == "decode":
            return {"seconds": self.contender.decode(self.job.decode_tokens)}
        call = self.contender.train_step if self.job.cell.task == "train" else self.contender.prefill
        start = time.perf_counter()
        call(self.tokens)
        return {"seconds": time.perf_counter() - start}


def serve(job: Job, answers: Any) -> None:
    """Load, then answer every line of stdin."""
    import torch

    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    work: Any = {RATE: RateWork, LIMITS: LimitsWork}.get(job.contender, ContenderWork)(job)
    give_back_memory()
    is_reset = reset_peak()
    answer(answers, {**work.facts, "loaded_bytes": status_bytes("VmRSS"), "peak_is_reset": is_reset})
    for line in sys.stdin:
        gc.collect()  # in nobody's time
        if line.strip() == "prove":
            proof = work.prove()
            if job.cell.task == "decode":  # the prompt was read in one piece, which is the memory of prefill
                give_back_memory()
                reset_peak()
            answer(answers, proof)
        elif line.startswith("rates "):
            answer(answers, work.measure(line.split()[1:]))
        else:
            answer(answers, work.round() if line.strip() == "round" else work.memory())


def answer(answers: Any, content: dict[str, Any]) -> None:
    """Write one line."""
    answers.write(json.dumps(content) + "\n")
    answers.flush()


def status_bytes(name: str) -> int:
    """`VmRSS`, what is resident now, or `VmHWM`, the most that was; without /proc the latter in both cases.

    The peak that getrusage knows begins with that of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak() -> bool:
    """Let the peak begin now, so that loading does not count; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def give_back_memory() -> None:
    """Return freed memory to the system, or what loading took would count as loaded."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)


def main() -> int:
    """Answer until stdin ends; an error is the last answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent decides
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not an answer
    from mamba_slm.core.network import forbid_network

    forbid_network()
    try:
        serve(Job.from_json(sys.argv[1]), answers)
    except BrokenPipeError:  # the parent has ended, and nobody waits for the answer
        os._exit(0)
    except MambaSlmError as error:
        answer(answers, {"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
        return error.exit_code
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(
            words in str(error) for words in ("not enough memory", "can't allocate")
        ):
            raise
        answer(answers, {"error": f"out of memory: {str(error).splitlines()[0]}", "hint": None, "exit_code": 4})
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
