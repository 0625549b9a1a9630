import struct

import pytest

from mamba_slm.text.vocabularies.protobuf import fields_of, float_of


def test_fields_of_every_wire_type_are_read():
    message = b"\x08\x96\x01" + b"\x12\x02hi" + b"\x1d" + struct.pack("<f", 0.5) + b"\x21" + b"8bytes!!"
    fields = list(fields_of(message))
    assert fields == [(1, 150), (2, b"hi"), (3, struct.pack("<f", 0.5)), (4, b"8bytes!!")]
    assert float_of(struct.pack("<f", 0.5)) == 0.5


@pytest.mark.parametrize("message", [b"\x08", b"\x12\x05hi", b"\x0b", b"\x08" + b"\xff" * 12])
def test_bytes_that_are_no_message_are_refused(message):
    with pytest.raises(ValueError):
        list(fields_of(message))
