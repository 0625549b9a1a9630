"""`mamba-slm doctor --plugins`: do the sublayers of plugins keep the promise of all sublayers?"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from mamba_slm.cli import console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flag."""
    parser.add_argument(
        "--plugins",
        action="store_true",
        help="only plugins: whether they load, and every promise of a sublayer, tried on a small model",
    )


def run(args: argparse.Namespace) -> int:
    """List the plugins, examine every sublayer that loads; exit code 6 when a promise is broken, 3 when one fails."""
    from mamba_slm.cli.examination.plugins import plugin_checks
    from mamba_slm.core.plugins import all_plugins

    checks = plugin_checks()
    found: list[dict[str, Any]] = []
    for plugin, check in zip(all_plugins(), checks, strict=False):
        findings = []
        if plugin.kind == "sublayers" and check.status == "ok":
            from mamba_slm.model.conformance import examine_sublayer

            findings = examine_sublayer(plugin.name)
        found.append({"plugin": plugin, "check": check, "findings": findings})
    broken = any(not finding.is_kept for row in found for finding in row["findings"])
    failed = any(check.status != "ok" for check in checks)
    if args.json:
        rows = [
            {
                **asdict(row["plugin"]),
                "loads": row["check"].status == "ok",
                "text": row["check"].text,
                "findings": [asdict(finding) | {"is_kept": finding.is_kept} for finding in row["findings"]],
            }
            for row in found
        ]
        console.print_json({"ok": not broken and not failed, "plugins": rows})
    else:
        for row in found:
            print(row["check"])
            for finding in row["findings"]:
                print(f"    {finding}")
        if not found:
            print("\n".join(map(str, checks)))
    return 6 if broken else 3 if failed else 0
