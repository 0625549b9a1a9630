"""One element of a job array: `python -m mamba_slm.data.engine.array_element FOLDER CHECKSUM ELEMENT`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mamba_slm.core.network import forbid_network
from mamba_slm.data.engine.wave import read_wave


def main(folder: str, checksum: str, element: str) -> None:
    """Do its tasks."""
    if os.environ.get("MAMBA_SLM_OFFLINE") == "1":
        forbid_network()
    read_wave(Path(folder), checksum).do(int(element))


if __name__ == "__main__":
    main(*sys.argv[1:])
