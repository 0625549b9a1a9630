import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.core.errors import ConfigError, DataError
from mamba_slm.data.decoding import check_encoding, decode

WITH_MARK = ["utf-8-sig", "utf-16", "utf-32"]
# UTF-16's mark and a zero character together are UTF-32's mark: no reader can tell them apart.
NO_NUL = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


@given(text=NO_NUL, encoding=st.sampled_from(WITH_MARK))
def test_a_byte_order_mark_overrules_the_encoding_and_is_removed(text, encoding):
    assert decode(text.encode(encoding), "f", encoding="utf-8") == text
    assert decode(text.encode(encoding), "f", encoding="latin-1") == text


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xfe\xff", "utf-16-be"), (b"\x00\x00\xfe\xff", "utf-32-be")])
def test_big_endian_marks_are_known(mark, encoding):
    assert decode(mark + "né".encode(encoding), "f") == "né"


@given(text=st.text(alphabet=st.characters(exclude_characters="\x00\ufeff", exclude_categories=["Cs"])))
def test_utf8_comes_out_as_it_is(text):
    assert decode(text.encode(), "f") == text


def test_a_wrong_byte_is_named_with_offset_and_line():
    with pytest.raises(DataError, match=r"f is not utf-8: byte 0xe9 at offset 12 \(line 2\)") as caught:
        decode(b"one two\n caf\xe9\n", "f")
    assert "--encoding latin-1" in caught.value.hint and "--on-error skip" in caught.value.hint
    assert decode(b"caf\xe9", "f", encoding="latin-1") == "café"


def test_windows_quotes_suggest_the_windows_encoding():
    with pytest.raises(DataError, match=r"byte 0x93 at offset 0$") as caught:
        decode(b"\x93caf\xe9\x94", "f:3")
    assert "--encoding cp1252" in caught.value.hint


def test_a_broken_utf16_file_is_an_error_with_the_offset_in_the_file():
    with pytest.raises(DataError, match="utf-16-le: byte 0x61 at offset 4"):
        decode(b"\xff\xfeb\x00a", "f")


def test_a_binary_file_is_recognised_by_its_zero_bytes():
    with pytest.raises(DataError, match="f is a binary file: byte 0x00 at offset 4") as caught:
        decode(b"\x7fELF\x00\x01", "f")
    assert "--pattern" in caught.value.hint and "utf-16-le" in caught.value.hint
    assert decode("ab".encode("utf-16-le"), "f", encoding="utf-16-le") == "ab"


def test_a_mark_counts_only_at_the_start_of_a_file():
    with pytest.raises(DataError, match="byte 0xff at offset 0"):
        decode(b"\xff\xfea\x20", "f:9", at_start=False)


@pytest.mark.parametrize("name", ["utf8000", "hex", ""])
def test_an_unknown_encoding_is_refused(name):
    with pytest.raises(ConfigError, match="unknown encoding"):
        check_encoding(name)
    check_encoding("shift_jis")
