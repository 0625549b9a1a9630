"""Known holes in the pinned versions, by pip-audit: python deploy/package/audit.py; exits with
0 where there are none, 1 where there are some, 3 where nobody could be asked.

pip-audit says "no known vulnerabilities" where its service knows none of the packages, so what was asked is counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parents[2] / "constraints.txt"
COMMAND = ["-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]


def main(services: list[str]) -> int:
    """Ask the services, one after the other, until one knows the packages; the exit code."""
    for service in services:
        command = [sys.executable, *COMMAND, "--vulnerability-service", service, "--requirement", str(PINS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            found = json.loads(done.stdout)["dependencies"]
        except ValueError:
            print(f"{service}: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}", file=sys.stderr)
            continue
        asked = [one for one in found if "vulns" in one]
        print(f"{service}: {len(asked)} of {len(found)} pinned packages are known there", file=sys.stderr)
        if len(asked) * 2 < len(found):
            continue
        holes = [(one["name"], one["version"], hole) for one in asked for hole in one["vulns"]]
        for name, version, hole in holes:
            print(f"{name} {version}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version yet'}")
        return 1 if holes else 0
    print("error: no service answered, so nothing was audited", file=sys.stderr)
    print("hint: run it where the package index has its advisories, or where osv.dev can be reached", file=sys.stderr)
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["pypi", "osv"]))
