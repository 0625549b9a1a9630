"""Every path that the suite compares with the naive recurrence: ours first, then code that nobody here wrote."""

from __future__ import annotations

from conformance.oracles import ORACLES
from conformance.paths import OUR_PATHS, Path

PATHS: dict[str, Path] = OUR_PATHS | ORACLES
