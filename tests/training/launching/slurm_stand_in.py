"""What stands in for Slurm in tests: sbatch, srun and scontrol that run a job's script and its tasks as processes.

    python slurm_stand_in.py sbatch --parsable SCRIPT       prints the job's id; a controller runs the script
    python slurm_stand_in.py srun [OPTIONS] COMMAND …       starts the tasks of the job, ends all when one fails
    python slurm_stand_in.py scontrol show hostnames LIST
    python slurm_stand_in.py scontrol requeue ID

The folder SLURM_STAND_IN holds a folder for each job: its script, `tasks` with their process ids, `starts`, `requeue`
while it is to be started again, and `ended` with its exit code at the end.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "scontrol")


def install(folder: Path) -> dict[str, str]:
    """Put the commands on a PATH of their own; gives the variables that make a process use them."""
    programs, jobs = folder / "programs", folder / "jobs"
    for path in (programs, jobs):
        path.mkdir(parents=True)
    for name in COMMANDS:
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {name} "$@"\n')
        program.chmod(0o755)
    return {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "SLURM_STAND_IN": str(jobs),
        "SLURM_STAND_IN_FIRST_JOB": str(first_job()),
    }


def first_job() -> int:
    """The id of a first job whose port, which is made from its id, no other test's job has at the same time."""
    from mamba_slm.training.launching.slurm import FIRST_PORT, PORTS
    from ports import free_port

    return (free_port() - FIRST_PORT) % PORTS


def options_of(script: Path) -> dict[str, str]:
    """The #SBATCH lines; as Slurm does, quotes are taken off."""
    lines = re.findall(r"^#SBATCH (.*)$", script.read_text(), flags=re.MULTILINE)
    words = [word for line in lines for word in shlex.split(line)]
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def sbatch(*arguments: str) -> None:
    """Start a controller that outlives this process, and print the job's id."""
    script = Path(arguments[-1])
    if options_of(script).get("--partition") == "REFUSE":
        sys.exit("sbatch: error: invalid partition specified: REFUSE")
    jobs = Path(os.environ["SLURM_STAND_IN"])
    job = int(os.environ["SLURM_STAND_IN_FIRST_JOB"]) + len(list(jobs.iterdir()))
    folder = jobs / str(job)
    folder.mkdir()
    shutil.copy(script, folder / "script")
    subprocess.Popen(
        [sys.executable, __file__, "control", str(folder)],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    print(f"{job};cluster")


def control(text: str) -> None:
    """Run the script, again as long as it is requeued."""
    folder = Path(text)
    script = folder / "script"
    options = options_of(script)
    nodes, per_node = int(options["--nodes"]), int(options["--ntasks-per-node"])
    starts = 0
    while True:
        variables = {
            "SLURM_JOB_ID": folder.name,
            "SLURM_JOB_NODELIST": ",".join(["localhost"] * nodes),
            "SLURM_NTASKS": str(nodes * per_node),
            "SLURM_NTASKS_PER_NODE": str(per_node),
            **({"SLURM_RESTART_COUNT": str(starts)} if starts else {}),
        }
        with open(options["--output"].replace("%j", folder.name), "ab") as log:
            code = subprocess.call(
                ["bash", str(script)], env=os.environ | variables, cwd=options["--chdir"], stdout=log, stderr=log
            )
        starts += 1
        (folder / "starts").write_text(str(starts))
        if not (folder / "requeue").exists():
            break
        (folder / "requeue").unlink()
    writing = folder / "writing"
    writing.write_text(str(code))
    writing.rename(folder / "ended")


def srun(*arguments: str) -> None:
    """Run the command in every task; the highest exit code is ours."""
    words = list(arguments)
    kill = False
    while words[0].startswith("--"):
        kill |= words.pop(0) == "--kill-on-bad-exit=1"
    per_node = int(os.environ["SLURM_NTASKS_PER_NODE"])
    tasks = []
    for number in range(int(os.environ["SLURM_NTASKS"])):
        place = {"SLURM_PROCID": number, "SLURM_LOCALID": number % per_node, "SLURM_NODEID": number // per_node}
        tasks.append(subprocess.Popen(words, env=os.environ | {name: str(value) for name, value in place.items()}))
    folder = Path(os.environ["SLURM_STAND_IN"]) / os.environ["SLURM_JOB_ID"]
    writing = folder / "writing-tasks"
    writing.write_text(" ".join(str(task.pid) for task in tasks))
    writing.rename(folder / "tasks")
    codes = {}
    while len(codes) < len(tasks):
        pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        codes[pid] = 128 - code if code < 0 else code
        if codes[pid] and kill:
            for task in tasks:
                if task.pid not in codes:
                    os.kill(task.pid, signal.SIGTERM if codes[pid] in (130, 143) else signal.SIGKILL)
    (folder / "tasks").unlink()
    sys.exit(max(codes.values()))


def scontrol(*arguments: str) -> None:
    """The hosts of a list, or a job to be started again."""
    match arguments:
        case ("show", "hostnames", hosts):
            os.write(1, hosts.replace(",", "\n").encode() + b"\n")  # at once: the reader wants the first line only
        case ("requeue", job):
            (Path(os.environ["SLURM_STAND_IN"]) / job / "requeue").touch()
        case _:
            sys.exit(f"scontrol: error: {arguments}")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
