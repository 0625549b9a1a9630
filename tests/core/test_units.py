import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError
from mamba_slm.core.units import (
    format_bytes,
    format_count,
    format_seconds,
    parse_count,
    parse_seconds,
    three_digits,
)


@given(st.integers(-(10**15), 10**15))
def test_a_plain_number_reads_as_itself(value):
    assert parse_count(str(value)) == value
    assert parse_count(f"{value:_}") == value


@given(st.integers(1, 10**14))
def test_formatting_a_count_keeps_three_digits(value):
    assert parse_count(format_count(value)) == pytest.approx(value, rel=0.006)


@pytest.mark.parametrize(
    ("text", "value"), [("512k", 512_000), ("512Ki", 524_288), ("1.3B", 1_300_000_000), ("2t", 2 * 10**12), (" 7 ", 7)]
)
def test_suffixes_are_decimal_or_binary(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize("text", ["", "k", "1.5", "12 apples", "1e", "--3", "nan", "0x10"])
def test_what_is_no_whole_number_is_refused(text):
    with pytest.raises(ConfigError):
        parse_count(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1.5m", 90.0), ("2h", 7200.0), ("1h30m", 5400.0), ("1d", 86400.0)]
)
def test_durations_read_as_seconds(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "3 weeks", "h", "-5"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ConfigError):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (2**30, "1.00 GiB"), (3.5 * 2**40, "3.50 TiB")],
)
def test_bytes_use_binary_units(value, text):
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25 s"),
        (59.4, "59 s"),
        (59.6, "1 m 00 s"),
        (3599.7, "1 h 00 m"),
        (90_000, "1 d 01 h"),
        (float("inf"), "unknown"),
    ],
)
def test_seconds_use_two_units_at_most(value, text):
    assert format_seconds(value) == text


def test_three_digits_of_nothing_and_of_large_numbers():
    assert (three_digits(0), three_digits(0.00123), three_digits(12345.6)) == ("0", "0.00123", "12346")
