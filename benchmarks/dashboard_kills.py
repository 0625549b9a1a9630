"""Kills tab, dashboard, job worker and run at random, again and again, and says whether anything is missing after it.

    python benchmarks/dashboard_kills.py [--minutes 10] [--seed 1] [--kills 12]

Each round trains a small model, kills and continues, and compares the rows of metrics.jsonl with what a page shows;
prints one line for each round, and ends with 1 when there was a gap.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1] / "tests")  # instead of this folder, in which dashboard.py is another


def main() -> int:
    """Run rounds until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=12, help="in one round; 4 or more")
    args = parser.parse_args()
    from dashboard.browser import chromium
    from dashboard.killing import kill_at_random

    began, is_complete, seed = time.monotonic(), True, args.seed
    while time.monotonic() - began < 60 * args.minutes:
        with tempfile.TemporaryDirectory() as folder, chromium() as browser:
            steps = 15 * args.kills
            killed, written, shown = kill_at_random(browser, Path(folder), seed=seed, kills=args.kills, steps=steps)
        is_good = written == shown == list(range(1, steps + 1))
        is_complete &= is_good
        row = {"seed": seed, "killed": killed, "steps": len(written), "complete": is_good}
        print(json.dumps(row | {"minutes": round((time.monotonic() - began) / 60, 1)}), flush=True)
        seed += 1
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
