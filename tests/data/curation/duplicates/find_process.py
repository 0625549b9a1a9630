"""A process of its own that looks for duplicates: `python find_process.py FOLDER DOCUMENTS PER_PART FSYNCS`.

It kills itself when it syncs a file for the FSYNCS-th time (0: never), else it prints a JSON line.
"""

import json
import os
import signal
import sys
from pathlib import Path

from mamba_slm.data.curation.duplicates.find import find_duplicates
from mamba_slm.data.curation.duplicates.synthetic import synthetic_parts


def kill_at(fsyncs: int) -> None:
    """Let the process die, as by `kill -9`, between writing a file and making it last."""
    sync, left = os.fsync, [fsyncs]

    def counted(descriptor: int) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = counted


def main(folder: str, documents: str, per_part: str, fsyncs: str) -> None:
    if int(fsyncs):
        kill_at(int(fsyncs))
    parts = synthetic_parts(int(documents), int(per_part))
    found = find_duplicates(parts, Path(folder))
    removed = [int(removal.id) for removal in found.removals()]
    print(json.dumps({"fingerprint": found.fingerprint(), "removed": removed, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """The most memory this program has had. `ru_maxrss` begins with that of the process which started it."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
