"""Every path that the suite compares with the naive recurrence: ours first, in our program and in
others, then code that nobody here wrote."""

from __future__ import annotations

from conformance.exports import EXPORTS
from conformance.oracles import ORACLES
from conformance.paths import OUR_PATHS, Path

PATHS: dict[str, Path] = OUR_PATHS | EXPORTS | ORACLES
