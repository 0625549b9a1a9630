"""What will not fit is not begun."""

import pytest

from mamba_slm.core.errors import DiskFullError
from mamba_slm.data.engine.room import check_room


def test_what_will_not_fit_is_not_begun(tmp_path):
    check_room(tmp_path / "not" / "there", 1)
    with pytest.raises(DiskFullError, match=r"1048576 TiB will be written to .*/not/there"):
        check_room(tmp_path / "not" / "there", 1 << 60)
