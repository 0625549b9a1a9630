"""One call gives what the parts give, for any cut into batches."""

import numpy as np
import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.signals.assess import QualityConfig, assess
from mamba_slm.data.curation.signals.definition import COLUMN
from mamba_slm.data.curation.signals.native import measure_texts
from mamba_slm.data.curation.signals.rules import RULES, judge

LONG_LINE = "Subscribe to the letter that we send to everyone who wants it."
PROSE = """The river had been rising since Monday, and by the end of the week nobody on the lower road slept well. Old
men who remembered the last flood carried their furniture upstairs; their grandchildren thought it was a game. My mother
would not leave. She had lived in that house for forty years, she said, with water below and rain above, and she did not
intend to be moved by either. So we stayed with her, played cards by candlelight, and listened to the radio."""
TEXTS = [PROSE, "short", f"{LONG_LINE}\n\n{PROSE * 2}\n{LONG_LINE}", "buy now " * 60, PROSE.upper(), "x" * 1_000_001]


def test_texts_are_measured_judged_scored_and_cleaned():
    found = assess(TEXTS, QualityConfig.of("web"))
    assert [removed and removed.rule for removed in found.removed] == [
        *(None, "signals.min_characters", "signals.max_duplicate_line_share", "signals.min_distinct_stop_words"),
        *("signals.max_upper_character_share", "signals.max_characters"),
    ]
    assert found.removed[:5] == judge(measure_texts(TEXTS[:5]), RULES["web"])
    assert [kept and kept.text for kept in found.kept] == [PROSE, None, None, None, None, None]
    assert found.steps[0] > found.steps[3]


def test_repeated_lines_are_taken_out_of_what_stays():
    text = f"{LONG_LINE}\n\n{PROSE}\n{PROSE.replace('e', 'i').replace('a', 'o')}\n{LONG_LINE}"
    (kept,) = assess([text], QualityConfig.of("web")).kept
    assert kept is not None and kept.lines == 1 and kept.text == text.removesuffix("\n" + LONG_LINE)


def test_texts_of_forbidden_length_are_not_measured():
    found = assess(TEXTS, QualityConfig.of("web"))
    for i in (1, 5):
        assert found.signals[i, COLUMN["characters"]] == len(TEXTS[i])
        assert not np.delete(found.signals[i], COLUMN["characters"]).any()


@pytest.mark.parametrize("cut", range(len(TEXTS) + 1))
def test_batches_may_be_cut_anywhere(cut):
    config = QualityConfig.of("books")
    whole, first, second = (assess(texts, config) for texts in (TEXTS, TEXTS[:cut], TEXTS[cut:]))
    assert np.array_equal(whole.signals, np.concatenate([first.signals, second.signals]))
    assert np.array_equal(whole.steps, np.concatenate([first.steps, second.steps]))
    assert whole.removed == first.removed + second.removed and whole.kept == first.kept + second.kept


def test_unknown_kinds_are_refused():
    with pytest.raises(UnknownNameError, match="unknown kind of source 'wb'; did you mean 'web'"):
        QualityConfig.of("wb")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one part"):
        QualityConfig(rules=RULES["web"], repeats=QualityConfig.of("web").repeats, parts=())
