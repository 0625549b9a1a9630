"""What stands in for Slurm in tests: sbatch, squeue and scancel that run the elements of an array as processes.

    python slurm_stand_in.py sbatch --parsable SCRIPT
    python slurm_stand_in.py squeue --noheader --jobs=ID
    python slurm_stand_in.py scancel ID[_ELEMENT]

The folder SLURM_STAND_IN holds, for each job, a folder with the pid of each running element.
"""

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def sbatch(*arguments: str) -> None:
    """Start a controller that outlives this process, and print the job's id."""
    script = Path(arguments[-1])
    if "REFUSE" in script.read_text():
        sys.exit("sbatch: error: invalid partition specified")
    jobs = Path(os.environ["SLURM_STAND_IN"])
    job = next(number for number in itertools.count(1) if is_new(jobs / str(number)))
    shutil.copy(script, jobs / str(job) / "script")
    subprocess.Popen(
        [sys.executable, __file__, "control", str(jobs / str(job))],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    print(f"{job};cluster")


def is_new(folder: Path) -> bool:
    """Make a job's folder, unless another sbatch has: one of a killed engine may run at the same time."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def control(folder: str) -> None:
    """Run all elements, as many at a time as the script says."""
    script = Path(folder) / "script"
    options = dict(re.findall(r"^#SBATCH --(\w+)=(.*)$", script.read_text(), flags=re.MULTILINE))
    last, at_a_time = map(int, options["array"].removeprefix("0-").split("%"))

    def element(number: int) -> None:
        if (Path(folder) / "cancelled").exists():
            return
        with open(options["output"].replace("%a", str(number)), "wb") as log:
            process = subprocess.Popen(
                ["bash", str(script)],
                env={**os.environ, "SLURM_ARRAY_TASK_ID": str(number)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pid = Path(folder) / f"element-{number}"
        pid.write_text(str(process.pid))
        if (Path(folder) / "cancelled").exists():  # meanwhile, by who did not see the file
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        pid.unlink()

    try:
        with ThreadPoolExecutor(at_a_time) as pool:
            list(pool.map(element, range(last + 1)))
    finally:  # an engine may have deleted the folder of the log
        (Path(folder) / "over").touch()


def squeue(*arguments: str) -> None:
    """A line until the job's controller is done."""
    job = arguments[-1].partition("=")[2]
    folder = Path(os.environ["SLURM_STAND_IN"]) / job
    if not folder.is_dir():
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    if not (folder / "over").exists():
        print(f"{job}_[0] cpu mamba R")


def scancel(which: str) -> None:
    """Kill an element, or all of them."""
    job, _, element = which.partition("_")
    folder = Path(os.environ["SLURM_STAND_IN"]) / job
    if not element:
        (folder / "cancelled").touch()
    for path in folder.glob(f"element-{element or '*'}"):
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int(path.read_text()), signal.SIGKILL)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
