"""What the pages of the dashboard cost in a real browser: first view, update with 100,000 points, heap, 20 tabs.

    python benchmarks/dashboard.py [--points 100000] [--tabs 20] [--out FILE]

A run of so many steps is written, the dashboard started in a process of its own, and Chromium opens its pages; then
rows are appended, and the time from a row on the disk to the drawn curve is taken, of which the page itself spends
the part that is listed. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-precise-memory-info"]
DRAW = """() => {
  const charts = [...document.querySelectorAll('.chart canvas')].map(each => each.chart);
  const began = performance.now();
  for (const chart of charts) chart.draw();
  return performance.now() - began;
}"""


def row(step: int) -> dict[str, object]:
    """A training row."""
    return {
        "kind": "train", "step": step, "tokens": 512 * step, "seconds": 0.1 * step,
        "loss": 2 + 3 * math.exp(-step / 9000) + 0.1 * math.sin(step * 1.7), "learning_rate": 1e-3,
        "grad_norm": 1 + 0.3 * math.cos(step), "tokens_per_second": 5120.0 + step % 97, "mfu": 0.3,
        "memory_bytes": 10**9 + step,
    }  # fmt: skip


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return 1024 * int(line.split()[1])
    return 0


FIRST_VIEWS = {"home": "/", "run": "/runs/0/20260401-long"} | {
    name: f"/{name}"
    for name in ("data", "train", "tune", "runs", "models", "chat", "rate", "evaluate", "serve", "system")
}


def until(page: Any, expression: str, *, seconds: float = 120) -> None:
    """Wait until an expression is true in a page, and say which one never was."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > deadline:
            raise SystemExit(f"never true within {seconds} s: {expression}")
        page.wait_for_timeout(10)


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--tabs", type=int, default=20)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as at_the_end:
        run = Path(folder) / "20260401-long"
        run.mkdir()
        metrics = run / "metrics.jsonl"
        metrics.write_text("".join(json.dumps(row(step)) + "\n" for step in range(1, args.points + 1)))
        command = [
            sys.executable,
            "-m",
            "mamba_slm.cli.main",
            "dashboard",
            "--no-open",
            "--port",
            "0",
            "--home",
            folder,
        ]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        at_the_end.callback(server.communicate)
        at_the_end.callback(server.kill)  # first, also when something went wrong
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        origin = address.partition("/?")[0]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
            context = browser.new_context(viewport={"width": 1366, "height": 768})
            page = context.new_page()
            page.goto(address)
            found: dict[str, object] = {"points": args.points, "first_view_ms": {}}
            for name, path in FIRST_VIEWS.items():
                times = []
                for _ in range(5):
                    fresh = browser.new_context(storage_state=context.storage_state())  # an empty cache
                    tab = fresh.new_page()
                    tab.goto(origin + path)
                    times.append(tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime"))
                    sent = tab.evaluate(
                        "performance.getEntriesByType('resource').reduce((n, e) => n + e.encodedBodySize, 0)"
                    )
                    fresh.close()
                found["first_view_ms"][name] = round(statistics.median(each for each in times if each is not None))
                found[f"{name}_bytes"] = sent
            page.goto(f"{origin}/runs/0/20260401-long")
            until(page, "Boolean(window.runState?.series)")
            found["points_on_the_page"] = page.evaluate("runState.series.step.length")
            found["draw_all_curves_ms"] = round(statistics.median(page.evaluate(DRAW) for _ in range(20)), 2)
            updates = []
            for number in range(1, 11):
                with metrics.open("a") as file:
                    file.write(json.dumps(row(args.points + number)) + "\n")
                began = time.monotonic()
                until(page, f"runState.series.count >= {args.points + number}")
                updates.append(1000 * (time.monotonic() - began))
            found["row_to_curve_ms"] = round(statistics.median(updates))  # the page asks once a second
            found["heap_bytes"] = page.evaluate("performance.memory.usedJSHeapSize")
            tabs = [context.new_page() for _ in range(args.tabs)]
            began = time.monotonic()
            for tab in tabs:
                tab.goto(f"{origin}/runs/0/20260401-long")
            for tab in tabs:
                until(tab, "Boolean(window.runState?.series)")
            found["tabs"] = {"count": args.tabs, "all_drawn_seconds": round(time.monotonic() - began, 1)}
            found["server_resident_bytes"] = resident_bytes(server.pid)
            browser.close()
    text = json.dumps(found, indent=2)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
