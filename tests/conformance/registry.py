"""Every path that the suite compares with the naive recurrence: ours first, in our program and in
others, with quantized weights, then code that nobody here wrote."""

from __future__ import annotations

from conformance.exports import EXPORTS
from conformance.oracles import ORACLES
from conformance.paths import OUR_PATHS, Path
from conformance.quantized import QUANTIZED

PATHS: dict[str, Path] = OUR_PATHS | EXPORTS | QUANTIZED | ORACLES
