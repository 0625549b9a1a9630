"""`mamba-slm dashboard`: the runs in a browser."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mamba_slm.cli import console
from mamba_slm.core.units import parse_count

TOKEN_VARIABLE = "MAMBA_SLM_DASHBOARD_TOKEN"
EPILOG = f"""\
The pages read run directories and start the commands that a terminal would; runs go on when page, terminal or dashboard
end. The address with the token opens it; a browser shows the token once and keeps a cookie. The token is kept in
HOME/.dashboard, so that open pages survive a restart. From another machine: ssh -L 8888:localhost:8888 MACHINE.

Behind a proxy give --root-path, and --allowed-host with the name that browsers see. ${TOKEN_VARIABLE} is a token of
your own. Needs the extra dashboard.

--window shows the pages in a window instead of a browser; closing it ends the dashboard, and no run. Needs the extra
window.

examples:
  mamba-slm dashboard
  mamba-slm dashboard --home runs --home /shared/runs --port 9000 --no-open
  mamba-slm dashboard --data /shared/text --upload-limit 10Gi
  mamba-slm dashboard --read-only --root-path /user/ada/proxy/8888 --allowed-host hub.example.org
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `mamba-slm dashboard`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--home",
        action="append",
        metavar="DIR",
        help="folder of runs, can be given again; new runs go to the first (default: $MAMBA_SLM_HOME, else ./runs)",
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="default 127.0.0.1: this machine only")
    parser.add_argument(
        "--port", type=parse_count, default=8888, metavar="N", help="default 8888; 0 takes one that is free"
    )
    parser.add_argument(
        "--token",
        default="auto",
        metavar="TOKEN",
        help=f"auto: ${TOKEN_VARIABLE}, else the one kept in the first home (default); new: make another, which signs "
        "every browser out; anything else is the token itself, for all processes of this machine to see",
    )
    parser.add_argument("--root-path", default="", metavar="PATH", help="where a proxy shows it")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name besides localhost under which browsers reach it; can be given again",
    )
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="DIR",
        help="folder whose files may be shown besides those below the homes and the folder it is started in; can be "
        "given again",
    )
    parser.add_argument(
        "--upload-limit",
        type=parse_count,
        default=2 << 30,
        metavar="N",
        help="largest file that a browser may send, in bytes (default 2Gi)",
    )
    parser.add_argument("--no-open", action="store_true", help="do not open a browser")
    parser.add_argument("--window", action="store_true", help="show the pages in a window of their own")
    parser.add_argument("--read-only", action="store_true", help="show, but start, stop and write nothing")


def run(args: argparse.Namespace) -> int:
    """Run the command until it is told to stop."""
    from mamba_slm.cli.dashboard_plan import actions
    from mamba_slm.dashboard.config import DashboardConfig
    from mamba_slm.dashboard.server import serve
    from mamba_slm.dashboard.tokens import kept_token
    from mamba_slm.runs.layout import default_home

    homes = tuple(Path(home) for home in args.home or [default_home()])
    token = args.token
    if token == "auto":
        token = os.environ.get(TOKEN_VARIABLE) or kept_token(homes[0])
    elif token == "new":
        token = kept_token(homes[0], is_new=True)
    config = DashboardConfig(
        homes=homes,
        token=token,
        host=args.host,
        port=args.port,
        allowed_hosts=tuple(args.allowed_host),
        root_path=args.root_path.rstrip("/"),
        data=tuple(Path(folder) for folder in args.data),
        upload_bytes=args.upload_limit,
        is_read_only=args.read_only,
    )
    return serve(
        config,
        actions=actions(),
        say=console.say,
        show=lambda address: print(address, flush=True),
        opens_browser=not args.no_open and has_screen(),
        opens_window=args.window,
    )


def has_screen() -> bool:
    """Whether a browser could be seen: not over SSH, and on Linux with a display."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    return os.uname().sysname == "Darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
