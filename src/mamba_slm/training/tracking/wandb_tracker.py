"""Weights & Biases: online where somebody is logged in, else into RUN/wandb, to be uploaded later or never.

Only curves and settings are sent: neither the command line, nor the console, nor code, nor the machine.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mamba_slm.core.optional import require
from mamba_slm.training.tracking.tracker import PROJECT, TrackedRun, Tracker, after

MODES = ("online", "offline", "disabled", "shared")


def choose_mode() -> tuple[str, str]:
    """The mode and why."""
    if os.environ.get("MAMBA_SLM_OFFLINE") == "1":
        return "offline", "the network is off (--offline)"
    asked = os.environ.get("WANDB_MODE", "")
    if asked in MODES:
        return asked, f"WANDB_MODE={asked}"
    if os.environ.get("WANDB_API_KEY") or is_logged_in():
        return "online", "somebody is logged in"
    return "offline", "nobody is logged in; `wandb login` changes that"


def is_logged_in(host: str = "api.wandb.ai") -> bool:
    """Whether the netrc file has a password for the service, or for the one that WANDB_BASE_URL names."""
    host = os.environ.get("WANDB_BASE_URL", host).rpartition("//")[2].strip("/")
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return file.is_file() and netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):  # unreadable: nobody can log in with it either
        return False


class WandbTracker(Tracker):
    """Needs the extra `track`. WANDB_PROJECT and WANDB_ENTITY are honoured.

    Its service takes every step once, so a resumed run begins after the last step that was tracked.
    """

    name = "wandb"
    run: Any = None

    def open(self, run: TrackedRun, *, step: int) -> str:
        os.environ.setdefault(
            "WANDB_ERROR_REPORTING", "false"
        )  # before the import: it reports to its makers, offline too
        wandb = require("wandb", extra="track", purpose="logging to Weights & Biases")
        mode, reason = choose_mode()
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            disable_code=True,
            disable_job_creation=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        self.wandb = wandb
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=run.id,
            name=run.name,
            resume="allow",
            config=dict(run.settings),
            dir=str(run.folder),
            mode=mode,
            reinit="finish_previous",
            settings=settings,
        )
        self.first_step = after(max(run.logged_step, self.run.step), step)
        where = self.run.url if mode in ("online", "shared") else f"{run.folder}/wandb; upload with: wandb sync"
        return f"{mode} ({reason}), run {run.id}: {where}"

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        self.run.log(dict(values), step=step)

    def log_histogram(self, name: str, counts: Sequence[float], edges: Sequence[float], *, step: int) -> None:
        self.run.log({name: self.wandb.Histogram(np_histogram=(list(counts), list(edges)))}, step=step)

    def close(self, *, ended_well: bool) -> None:
        self.run.finish(exit_code=0 if ended_well else 1)
