"""Run directories written by hand, as a training leaves them, and the dashboard over them."""

import json
import math

from starlette.testclient import TestClient

from mamba_slm.cli.dashboard_plan import actions
from mamba_slm.cli.main import load_command
from mamba_slm.core.files import write_json_atomic
from mamba_slm.dashboard.app import create_app
from mamba_slm.dashboard.config import DashboardConfig
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import MetricsWriter
from mamba_slm.runs.record import RunRecord, write_record
from mamba_slm.runs.status import Status, write_status

TOKEN = "a-token-of-the-tests"
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def train_row(step):
    loss = 3 + 3 * math.exp(-step / 40) + 0.05 * math.sin(step * 1.7)
    return {
        "kind": "train", "step": step, "tokens": 512 * step, "seconds": 0.5 * step, "loss": loss,
        "learning_rate": 3e-3 * min(1, step / 10), "grad_norm": 1 + 0.2 * math.cos(step), "tokens_per_second": 1024.0,
        "mfu": 0.2, "memory_bytes": 500_000_000,
    }  # fmt: skip


def make_run(home, name="20260401-nano", *, steps=50, state="done", samples=(0, 25, 50), text="the the", config=""):
    """A run of `steps` steps."""
    run = RunDirectory.create(home / name)
    with MetricsWriter(run.metrics_file) as metrics:
        for step in range(1, steps + 1):
            metrics.append(train_row(step))
            if step % 25 == 0:
                metrics.append(
                    {"kind": "validation", "step": step, "tokens": 512 * step, "loss": 3.1, "bits_per_byte": 1.9}
                )
    with MetricsWriter(run.samples_file) as rows:
        for step in samples:
            rows.append({"step": step, "tokens": 0, "prompt": "Once", "text": f" {text} {step}"})
    with MetricsWriter(run.events_file) as rows:
        document = {"row": 0, "position": 0, "tokens": 9, "begins": text}
        rows.append({"kind": "spike", "step": 30, "message": "step 31: the loss jumped", "documents": [document]})
    write_status(run.status_file, Status(state=state, step=steps, message="reached its end"))
    command = ("mamba-slm", "train", "nano", "--data", "text.txt", "--max-steps", str(steps))
    record = RunRecord(
        id=name, kind="train", command=command, created="2026-04-01T12:00:00Z", working_directory=str(home)
    )
    write_record(run.record_file, record)
    run.config_file.write_text(config or f"train:\n  max_steps: {steps}\n  batch_tokens: 512\n")
    run.log_file.write_text("".join(f"step {step}\n" for step in range(1, steps + 1)) + f"last words {text}\n")
    checkpoint = run.checkpoint_folder(steps)
    checkpoint.mkdir()
    write_json_atomic(checkpoint / "config.json", {})
    run.mark_best(steps)
    return run


def client_of(*homes, signed_in=True, base="http://localhost:8888", **settings):
    """A client of the dashboard over some homes."""
    app = create_app(DashboardConfig(homes=homes, token=TOKEN, **settings), actions=actions())
    client = TestClient(app, base_url=base, follow_redirects=False)
    if signed_in:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
    return client


def append(run, *rows):
    with run.metrics_file.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def parse(words):
    """Parse the words after `mamba-slm` as the command line would."""
    _, parser = load_command(words[0])
    return parser.parse_args(words[1:])
