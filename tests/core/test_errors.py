import re

import pytest

from mamba_slm.core import errors
from mamba_slm.core.errors import MambaSlmError, UnknownNameError, UsageError


def every_error(base=MambaSlmError):
    yield base
    for child in base.__subclasses__():
        yield from every_error(child)


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = {}
    for line in errors.__doc__.splitlines():
        if match := re.match(r"[\s│├└─]*([A-Z]\w+Error)\s+(?:exit (\d+))?", line):
            drawn[match[1]] = int(match[2]) if match[2] else None
    ours = {error.__name__: error for error in every_error() if error.__module__ == errors.__name__}
    assert set(drawn) == set(ours)
    assert all(ours[name].exit_code == code for name, code in drawn.items() if code is not None)


@pytest.mark.parametrize("error", [error for error in every_error() if not issubclass(error, UnknownNameError)])
def test_every_error_carries_message_hint_and_exit_code(error):
    raised = error("what", hint="do this")
    assert (str(raised), raised.message, raised.hint) == ("what", "what", "do this")
    assert raised.exit_code in (1, 2, 3, 4, 5, 6, 130)
    assert error("what").hint is None


def test_an_unknown_name_suggests_the_nearest_or_lists_what_is_known():
    near = UnknownNameError("preset", "1.3b", ["1.3B", "nano"])
    assert str(near) == "unknown preset '1.3b'; did you mean '1.3B'?"
    far = UnknownNameError("preset", "zzz", ["b", "a"])
    assert str(far) == "unknown preset 'zzz'"
    assert far.hint == "known: a, b"
    assert isinstance(far, UsageError)
