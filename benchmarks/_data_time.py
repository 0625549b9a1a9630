"""Time one way of `_data_ways.py` or `_data_peers.py` in this process: `PYTHON _data_time.py MODULE WAY CORPUS`.

Prints JSON: seconds of the processor (of all threads and of processes that it started), the most memory, versions.
"""

import importlib
import json
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("daft", "datasets", "datatrove", "dolma", "fastokens", "hyperscan", "pycld2", "rensa", "tokenizers")


def processor_seconds() -> float:
    """Of this process and its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_bytes() -> int:
    """Of this program alone: `ru_maxrss` begins with what the program that started it held."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Prepare, time once, print."""
    module, name, corpus = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parent))
    run = importlib.import_module(module).WAYS[name](Path(corpus))
    start = processor_seconds()
    run()
    seconds = processor_seconds() - start
    versions = {}
    for package in PACKAGES:
        if package in sys.modules:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                continue
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes(), "versions": versions}))


if __name__ == "__main__":
    main()
