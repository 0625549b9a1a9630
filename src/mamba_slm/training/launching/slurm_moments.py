"""What the script of a Slurm job asks before its processes start and after they ended.

    python -m mamba_slm.training.launching.slurm_moments before RUN
    python -m mamba_slm.training.launching.slurm_moments after RUN CODE

Before: a machine that was taken away may have left the run locked, which nobody elsewhere can know until it has given
no sign of life for a while; wait for that. After: submit the job again if it was interrupted, and only then. Processes
end by SIGTERM (time limit, pre-emption) with 130 when they have saved, with 143 when they could not yet; a person
stops a run with SIGINT (`mamba-slm runs stop`) or ends the job with scancel, and neither must bring it back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mamba_slm.core.errors import MambaSlmError
from mamba_slm.runs.layout import RunDirectory, step_of
from mamba_slm.runs.status import read_status
from mamba_slm.training.launching.job import wait_for_lock

INTERRUPTED = (130, 143)
STARTS_WITHOUT_PROGRESS = 3
"""A job that is interrupted this often at the same step would be so for ever."""


def reason_to_requeue(code: int, *, message: str, steps: Sequence[int]) -> tuple[bool, str]:
    """Whether to submit the job again, and why.

    Args:
        code: how its processes ended.
        message: of the run's status: the signal that stopped it.
        steps: of the newest checkpoint at each of the earlier interruptions and at this one, in their order.
    """
    if code == 0:
        return False, "the run is done"
    if code not in INTERRUPTED:
        return False, f"the processes ended with exit code {code}, which another start would not mend"
    if code == 130 and message == "SIGINT":
        return False, "somebody stopped the run"
    last = steps[-STARTS_WITHOUT_PROGRESS:]
    if len(last) == STARTS_WITHOUT_PROGRESS and len(set(last)) == 1:
        return False, f"{STARTS_WITHOUT_PROGRESS} starts in a row got no further than step {last[-1]}"
    return True, "interrupted, everything is saved" if code == 130 else "interrupted before it could save"


def after(run: Path, code: int) -> int:
    """Submit the job again, if that helps; 0 unless Slurm refuses."""
    directory, notes = RunDirectory(run), run / "slurm" / "interruptions.jsonl"
    newest = directory.latest()
    step = step_of(newest) if newest else 0
    job = os.environ.get("SLURM_JOB_ID", "")
    earlier = [json.loads(line) for line in notes.read_text().splitlines()] if notes.is_file() else []
    steps = [entry["step"] for entry in earlier if entry["job"] == job]
    status = read_status(directory.status_file)
    wanted, reason = reason_to_requeue(code, message=status.message if status else "", steps=[*steps, step])
    if not wanted:
        say(f"not requeued: {reason}")
        return 0
    notes.parent.mkdir(parents=True, exist_ok=True)
    with notes.open("a") as file:
        file.write(json.dumps({"job": job, "step": step, "code": code, "time": round(time.time(), 3)}) + "\n")
    say(f"requeued to go on after step {step:,}: {reason}")
    answer = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if answer.returncode:
        say(f"scontrol: {(answer.stderr or answer.stdout).strip()} (Slurm may have requeued it already)")
    return answer.returncode


def say(text: str) -> None:
    """Into the log of the job."""
    print(f"mamba-slm: {text}", flush=True)


def main(words: Sequence[str]) -> int:
    """The command."""
    match words:
        case ["before", run]:
            return 0 if wait_for_lock(Path(run), say=say) else 1
        case ["after", run, code]:
            return after(Path(run), int(code))
    raise SystemExit(f"unknown words {list(words)}; this is called by the script of a Slurm job")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except MambaSlmError as error:
        sys.exit(f"error: {error.message}")
