"""`docs/roadmap.md`: the phases of the original roadmap, what does each step here, and what it takes.

python tests/origins/roadmap_page.py docs/roadmap.md
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mamba_slm.core.hardware import GPUS, SPOT_PRICE_SHARE
from origins import roadmap_claims, roadmap_measured
from origins import roadmap_numbers as numbers

TEXT = Path(__file__).with_name("roadmap.txt")


def page() -> str:
    """The page, as Markdown."""
    a100 = GPUS["A100 80GB"]
    found = {
        "a100_price": f"${a100.price_per_hour_usd:.2f}",
        "spot_share": f"{SPOT_PRICE_SHARE:.0%}",
        "claimed_sizes": numbers.sizes_on_their_hardware(),
        "claimed_commands": numbers.commands_of_claims(),
        "thirteen": numbers.thirteen_with_zero_3(),
        "sizes": numbers.sizes(),
        "curation": numbers.curation(),
        "storage": numbers.storage(),
        "tuning": numbers.tuning(),
        **roadmap_claims.values(),
        **roadmap_measured.values(),
    }
    text = TEXT.read_text(encoding="utf-8")
    for name, value in found.items():
        assert f"{{{{{name}}}}}" in text, name
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
