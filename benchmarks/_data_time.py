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


def main() -> None:
    """Prepare, time once, print."""
    module, name, corpus = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parent))
    run = importlib.import_module(module).WAYS[name](Path(corpus))
    start = processor_seconds()
    run()
    seconds = processor_seconds() - start
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    versions = {}
    for package in PACKAGES:
        if package in sys.modules:
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                continue
    print(json.dumps({"seconds": seconds, "peak_bytes": peak * 1024, "versions": versions}))


if __name__ == "__main__":
    main()
