"""Curves in TensorBoard, wandb (offline) and trackio, from real runs of a small model."""

import dataclasses
import importlib
import json
import struct
import subprocess
import sys
import time

import pytest

from mamba_slm.core.errors import DataError, MissingDependencyError
from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from mamba_slm.training.config import TrainConfig
from mamba_slm.training.hooks import RunView
from mamba_slm.training.reports import StepReport
from mamba_slm.training.run import train
from mamba_slm.training.tracking.hook import TRACKERS, TrackingHook, tracked
from mamba_slm.training.tracking.tracker import Tracker, identify, remember
from mamba_slm.training.tracking.wandb_tracker import WandbTracker, choose_mode

SECRET = "hf_" + "S3cretS3cretS3cret"


@pytest.fixture
def tracked_run(make_trainer):
    """`tracked_run(name, log, ...)`: train with these trackers; `resume` continues."""

    def run(log, *, resume=False, **settings):
        trainer = make_trainer(log=("jsonl", *log), **settings)
        with tracked(trainer.config, trainer.run, trainer.say) as hooks:
            trainer.hooks = hooks
            trainer.train(resume=resume)
        return trainer

    return run


def losses(trainer):
    return {row["step"]: row["loss"] for row in read_metrics(trainer.run.metrics_file, kind="train")}


def test_tensorboard_gets_every_curve(tracked_run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer = tracked_run(["tensorboard"])
    events = accumulator.EventAccumulator(str(trainer.run.path / "tensorboard")).Reload()
    assert {event.step: event.value for event in events.Scalars("train/loss")} == pytest.approx(losses(trainer))
    assert [event.step for event in events.Scalars("validation/loss")] == [4, 8, 12]
    assert {"train/learning_rate", "train/grad_norm", "train/tokens_per_second"} <= set(events.Tags()["scalars"])


def test_a_resumed_run_continues_its_curves_in_tensorboard(tracked_run):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracked_run(["tensorboard"], max_steps=6)
    trainer = tracked_run(["tensorboard"], resume=True, max_steps=10)
    events = accumulator.EventAccumulator(str(trainer.run.path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 11))


def wandb_rows_at_the_end(folder, *, last_step):
    """`wandb_rows`, once they hold this step: wandb's service closes its file a moment after `finish` returned."""
    until = time.monotonic() + 240
    while True:
        ids, configs, rows = wandb_rows(folder)
        if any(int(row["_step"]) == last_step for row in rows) or time.monotonic() > until:
            return ids, configs, rows
        time.sleep(0.1)


def wandb_rows(folder):
    """What is in the .wandb files of a folder, which are LevelDB logs: their run ids, configs and history rows."""
    protobuf = importlib.import_module("wandb.proto.wandb_internal_pb2")
    ids, configs, rows = [], [], []
    for file in sorted(folder.glob("offline-run-*/*.wandb")):
        content, place, piece = file.read_bytes(), 7, b""
        while place + 7 <= len(content):
            if 32768 - place % 32768 < 7:  # the rest of a block, too short for a header
                place += 32768 - place % 32768
                continue
            _, length, kind = struct.unpack("<IHB", content[place : place + 7])
            if place + 7 + length > len(content):  # being written
                break
            piece += content[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):  # whole, or the last of several
                record, piece = protobuf.Record.FromString(piece), b""
                if record.HasField("run"):
                    ids.append(record.run.run_id)
                    configs.append({item.key: item.value_json for item in record.run.config.update})
                if record.HasField("history"):
                    rows.append({"/".join(item.nested_key): item.value_json for item in record.history.item})
    return ids, configs, rows


@pytest.fixture
def wandb_offline(monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MAMBA_SLM_OFFLINE", "1")


def test_wandb_offline_gets_every_curve_and_a_resumed_run_continues_the_same_one(
    tracked_run, wandb_offline, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["mamba-slm", "train", "--hf-token", SECRET])
    monkeypatch.setenv("HF_TOKEN", SECRET)
    tracked_run(["wandb"], max_steps=6, data=(f"https://ada:{SECRET}@host/x",))
    trainer = tracked_run(["wandb"], resume=True, max_steps=10)
    ids, configs, rows = wandb_rows_at_the_end(trainer.run.path / "wandb", last_step=10)
    assert set(ids) == {identify(trainer.run.path, "", {}).id}
    assert all("batch_tokens" in config["train"] for config in configs if config)
    found = {int(row["_step"]): float(row["train/loss"]) for row in rows if "train/loss" in row}
    assert found == pytest.approx(losses(trainer))
    assert [int(row["_step"]) for row in rows if "validation/loss" in row] == [4, 6, 8, 10]
    for file in (trainer.run.path / "wandb").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_wandb_says_why_it_is_online_or_offline(monkeypatch, tmp_path):
    for name in ("MAMBA_SLM_OFFLINE", "WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    assert choose_mode() == ("offline", "nobody is logged in; `wandb login` changes that")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password 1\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert choose_mode()[0] == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode()[0] == "disabled"
    monkeypatch.setenv("MAMBA_SLM_OFFLINE", "1")
    assert choose_mode()[0] == "offline"


TRACKIO_PROGRAM = """
import sys
from mamba_slm.training.tracking.tracker import identify
from mamba_slm.training.tracking.trackio_tracker import TrackioTracker
from pathlib import Path

run, resumed_at, steps = identify(Path(sys.argv[1]), "run", {"train": {"seed": 3}}), int(sys.argv[2]), int(sys.argv[3])
tracker = TrackioTracker()
print(tracker.open(run, step=resumed_at), file=sys.stderr)
for step in range(resumed_at + 1, steps + 1):
    if step >= tracker.first_step:
        tracker.log({"train/loss": 1 / step}, step=step)
tracker.close(ended_well=True)
from trackio.sqlite_storage import SQLiteStorage
import json
runs = SQLiteStorage.get_runs("mamba-slm")
print(json.dumps([runs, [[row["step"], row["train/loss"]] for row in SQLiteStorage.get_logs("mamba-slm", runs[0])]]))
"""


def test_a_resumed_run_continues_in_trackio_without_a_step_twice(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    found = []
    for resumed_at, steps in ((0, 6), (4, 9)):  # as after a kill at step 6, whose last checkpoint was of step 4
        words = [sys.executable, "-c", TRACKIO_PROGRAM, str(tmp_path), str(resumed_at), str(steps)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)  # and nothing but our own line stands on stdout
    assert found[0] == [f"run-{identify(tmp_path, 'run', {}).id}"]
    assert found[1] == [[step, pytest.approx(1 / step)] for step in range(1, 10)]


@pytest.mark.parametrize("name", TRACKERS)
def test_without_the_package_its_extra_is_named(tracked_run, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError) as refused:
        tracked_run([name])
    assert "mamba-slm[track]" in str(refused.value.hint)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_refused_before_a_run_has_begun(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match="is not installed"):
        train(TrainConfig(model="nano", data=(str(tmp_path),), max_steps=1, log=(name,)), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Failing(Tracker):
    name = "failing"

    def open(self, run, *, step):
        self.closed = False
        return "nowhere"

    def log(self, values, *, step):
        raise OSError("the service is gone")


REPORT = StepReport(
    step=1, tokens=8, seconds=1.0, loss=2.0, learning_rate=0.1, grad_norm=1.0, tokens_per_second=8.0, mfu=None,
    memory_bytes=1,
)  # fmt: skip


def test_a_tracker_that_fails_on_the_way_is_left_out_and_says_why(tmp_path):
    said = []
    hook = TrackingHook([Failing()], identify(tmp_path, "run", {}), say=said.append)
    view = RunView(model=None, run=RunDirectory(tmp_path), step=0, tokens=0, seconds=0.0)
    hook.on_start(view)
    hook.on_step_end(view, REPORT)
    hook.on_step_end(view, dataclasses.replace(REPORT, step=2))
    assert len(said) == 2
    assert "failing failed" in said[1] and "the service is gone" in said[1]


def test_trackers_are_closed_also_when_the_run_fails(tmp_path, make_trainer, wandb_offline):
    trainer = make_trainer(log=("wandb",))
    with (
        pytest.raises(ZeroDivisionError),
        tracked(trainer.config, trainer.run, trainer.say) as hooks,
    ):
        [hook] = hooks
        assert isinstance(hook, TrackingHook)
        hook.on_start(trainer.view(None))
        [tracker] = hook.trackers
        assert isinstance(tracker, WandbTracker)
        raise ZeroDivisionError
    import wandb

    assert wandb.run is None
    assert isinstance(hook, TrackingHook) and hook.trackers == []


def test_the_id_of_a_run_in_trackers_is_drawn_once_and_a_damaged_one_is_refused(tmp_path):
    first = identify(tmp_path, "run", {})
    remember(first, step=7)
    again = identify(tmp_path, "run", {})
    assert (again.id, again.logged_step) == (first.id, 7)
    remember(again, step=3)
    assert identify(tmp_path, "run", {}).logged_step == 7
    (tmp_path / "trackers.json").write_text("{}")
    with pytest.raises(DataError, match="no id and step"):
        identify(tmp_path, "run", {})
