"""Format and parse quantities the way people write them: 1.3B, 2.1 GiB, 3 h 12 m, 512k, 512Ki, 30m, 50%."""

from __future__ import annotations

import math
import re

from mamba_slm.core.errors import ConfigError

DECIMAL = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
BINARY = {"ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30, "ti": 2.0**40}
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_count(text: str) -> int:
    """Read a count: plain, decimal (k, M, B, T) or binary (Ki, Mi, Gi, Ti).

    >>> parse_count("1.3B"), parse_count("512Ki"), parse_count("1_000"), parse_count("3e-1k")
    (1300000000, 524288, 1000, 300)

    Raises:
        ConfigError: not a count, or not a whole number.
    """
    match = re.fullmatch(r"([+-]?[\d_]*\.?[\d_]+(?:e[+-]?\d+)?)([a-z]*)", text.strip(), flags=re.IGNORECASE)
    suffix = match[2].lower() if match else ""
    scale = 1.0 if not suffix else DECIMAL.get(suffix, BINARY.get(suffix))
    if match is None or scale is None:
        raise ConfigError(f"{text!r} is not a count", hint="write 1000, 512k (thousands), 512Ki (× 1024), 1.3B")
    value = float(match[1].replace("_", "")) * scale
    if abs(value - round(value)) > 1e-6 * max(1.0, abs(value)):
        raise ConfigError(f"{text!r} is not a whole number")
    return round(value)


def parse_seconds(text: str) -> float:
    """Read a duration: seconds without a unit, else s, m, h, d.

    >>> parse_seconds("90"), parse_seconds("30m"), parse_seconds("1h30m")
    (90.0, 1800.0, 5400.0)

    Raises:
        ConfigError: not a duration.
    """
    text = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", text)
    if not parts or re.sub(r"(\d+(?:\.\d+)?)\s*([smhd])", "", text).strip():
        raise ConfigError(f"{text!r} is not a duration", hint="write 90, 90s, 30m, 2h or 1h30m")
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def format_count(value: float) -> str:
    """Three significant digits with k, M, B, T.

    >>> format_count(999), format_count(61_123_456), format_count(1_440_000_000)
    ('999', '61.1M', '1.44B')
    """
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * scale:
            return f"{three_digits(value / scale)}{suffix}"
    return f"{value:.0f}" if float(value).is_integer() else three_digits(value)


def format_bytes(value: float) -> str:
    """Binary units with three significant digits.

    >>> format_bytes(512), format_bytes(2_880_000_000)
    ('512 B', '2.68 GiB')
    """
    for suffix, scale in (("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)):
        if abs(value) >= scale:
            return f"{three_digits(value / scale)} {suffix}"
    return f"{value:.0f} B"


def format_seconds(value: float) -> str:
    """Two units at most.

    >>> format_seconds(0.25), format_seconds(42), format_seconds(192), format_seconds(11_520)
    ('0.25 s', '42 s', '3 m 12 s', '3 h 12 m')
    """
    if not math.isfinite(value):
        return "unknown"
    if value < 10:
        return f"{value:.2g} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def three_digits(value: float) -> str:
    """Three significant digits without an exponent.

    >>> three_digits(1.4401), three_digits(61.12), three_digits(768.4)
    ('1.44', '61.1', '768')
    """
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"
