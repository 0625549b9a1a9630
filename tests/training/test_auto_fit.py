"""Promises about memory that runs out for real, by a limit of the system on the process."""

import dataclasses
import json
import subprocess
import sys

import pytest

from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.model.init import build_model
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.training.auto_fit import gradients_that_fit, memory_explained
from mamba_slm.training.distributed.world import alone
from mamba_slm.training.engines.engine import Engine
from mamba_slm.training.events import Events
from mamba_slm.training.measuring import random_batch
from mamba_slm.training.precision import Precision
from training.small_run import SETTINGS, TINY

PROGRAM = """
import json, resource, sys
from pathlib import Path
from mamba_slm.core.errors import OutOfMemoryError
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.hooks import Hook
from mamba_slm.training.run import train

folder = Path(sys.argv[1])
text = folder / "numbers.jsonl"
text.write_text("".join(json.dumps({"text": f"{n} and {n + 1} make {2 * n + 1}. "}) + "\\n" for n in range(9000)))
LEFT = 120 * 2**20

class Limit(Hook):
    def on_start(self, view):
        lines = Path("/proc/self/status").read_text().splitlines()
        now = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (now + LEFT, resource.RLIM_INFINITY))

def losses(name, hooks, **settings):
    config = TrainConfig(
        model="nano", vocab_size=300, context_tokens=256, batch_tokens=256 * 96, micro_batch_rows=96, max_steps=2,
        model_settings=("hidden_size=64", "feed_forward_size=256", "num_heads=2", "num_kv_heads=1"),
        data=(str(text),), validation_share=0.0, device="cpu", precision="fp32", threads=1, sample_every_steps=0,
        **settings,
    )
    said = []
    try:
        train(config, run=folder / name, hooks=hooks, say=said.append)
    except OutOfMemoryError as error:
        return {"error": error.message, "hint": error.hint, "code": error.exit_code}
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    run = folder / name
    return {"losses": [row["loss"] for row in read_metrics(run / "metrics.jsonl", kind="train")],
            "events": [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
            if (run / "events.jsonl").exists() else [], "said": said}

print(json.dumps({
    "failed": losses("failed", [Limit()]),
    "fitted": losses("fitted", [Limit()], auto_fit=True),
    "free": losses("free", []),
}))
"""


class Narrow(Engine):
    """An engine on a device that holds two rows at most."""

    def compute_gradients(self, batch):
        if self.config.rows_at_once > 2:
            raise MemoryError("three rows are too many")
        return super().compute_gradients(batch)


def narrow_engine(**settings):
    config = dataclasses.replace(SETTINGS, batch_tokens=8 * SETTINGS.context_tokens, micro_batch_rows=8, **settings)
    return Narrow(build_model(TINY), config, Precision("fp32", "cpu"), "cpu", alone())


def batch_of(rows):
    return random_batch(rows, SETTINGS.context_tokens, TINY.vocab_size)


def test_a_batch_that_does_not_fit_is_taken_in_smaller_pieces_and_that_is_an_event(tmp_path):
    said = []
    events = Events(RunDirectory(tmp_path), said.append)
    engine = narrow_engine(auto_fit=True)
    loss, norm = gradients_that_fit(engine, batch_of(8), events, step=4)
    assert engine.config.rows_at_once == 2
    assert said == [
        "step 5: three rows are too many; going on with --micro-batch-rows 4",
        "step 5: three rows are too many; going on with --micro-batch-rows 2",
    ]
    whole = Engine(build_model(TINY), SETTINGS, Precision("fp32", "cpu"), "cpu", alone())
    assert (loss, norm) == pytest.approx(whole.compute_gradients(batch_of(8)), rel=1e-5)


def test_without_auto_fit_the_error_goes_on_to_who_explains_it(tmp_path):
    engine = narrow_engine()
    with pytest.raises(OutOfMemoryError, match="the largest part is"), memory_explained(engine.config, TINY, alone()):
        gradients_that_fit(engine, batch_of(8), Events(RunDirectory(tmp_path), print), step=0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the data segment, as Linux counts it")
def test_memory_that_runs_out_is_explained_and_auto_fit_goes_on_with_the_same_batch(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    failed = found["failed"]
    assert failed["code"] == 4
    assert "the largest part is " in failed["error"] and "--micro-batch-rows" in failed["hint"]

    fitted = found["fitted"]
    assert fitted["losses"] == pytest.approx(found["free"]["losses"], rel=1e-5)
    kinds = [row["kind"] for row in fitted["events"]]
    assert "out of memory" in kinds and "going on with --micro-batch-rows 48" in fitted["events"][0]["message"]
    assert any(line.startswith("auto-fit: the settings fit as they are") for line in fitted["said"])
