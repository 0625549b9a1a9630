import json

import pytest

from mamba_slm.core.errors import MissingDependencyError, UnknownNameError
from mamba_slm.core.optional import require
from mamba_slm.core.registry import load


def test_a_name_loads_the_object_its_entry_points_to():
    assert load("format", "json", {"json": "json:dumps"}) is json.dumps
    with pytest.raises(UnknownNameError, match="unknown format 'jsn'; did you mean 'json'"):
        load("format", "jsn", {"json": "json:dumps"})


def test_an_optional_package_is_imported_or_explained():
    assert require("json", extra="data", purpose="reading") is json
    with pytest.raises(MissingDependencyError, match=r"reading \.zst files needs no_such_module") as caught:
        require("no_such_module", extra="data", purpose="reading .zst files")
    assert caught.value.hint == "pip install 'mamba-slm[data]'"
    assert isinstance(caught.value.__cause__, ImportError)
