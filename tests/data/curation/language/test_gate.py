"""The gate says which documents are not English, and leaves code alone."""

import numpy as np
import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.language.gate import LanguageConfig, LanguageGate
from mamba_slm.data.curation.verdict import KINDS

ENGLISH = "The committee will meet on Tuesday to discuss which of the proposals should be carried out first."
GERMAN = "Der Ausschuss trifft sich am Dienstag, um zu besprechen, welche der Vorschläge zuerst umgesetzt werden."
RUSSIAN = "Комитет соберётся во вторник, чтобы обсудить, какие предложения следует выполнить в первую очередь."
TURKISH_PAGE = """# tar

> Arşivleme aracı. Genellikle `gzip` gibi bir sıkıştırma yöntemiyle birlikte kullanılır.

- Bir dosyadan arşiv oluştur:

`tar cf {{path/to/target.tar}} {{path/to/file1 path/to/file2}}`
"""
PAGE = """# tar

> Archiving utility, often combined with a compression method such as `gzip`.

- Create an archive and write it to a file:

`tar cf {{path/to/target.tar}} {{path/to/file1 path/to/file2}}`
"""
CODE = "```sql\nSELECT name FROM users WHERE id = 7;\n```\n"


@pytest.mark.parametrize("kind", KINDS)
def test_english_stays_in_every_kind(kind):
    assert LanguageGate(LanguageConfig(), kind).removed([ENGLISH, PAGE]) == [None, None]


@pytest.mark.parametrize("kind", ["web", "books", "docs", "chat"])
def test_other_languages_are_removed_with_their_confidence_and_the_limit(kind):
    for removed in LanguageGate(LanguageConfig(), kind).removed([GERMAN, RUSSIAN, TURKISH_PAGE]):
        assert removed is not None and removed.rule == "language.not_english"
        assert removed.value is not None and 0 <= removed.value < 0.5 and removed.threshold == 0.9
        assert str(removed).endswith("allowed is at least 0.9")


def test_code_is_not_judged():
    gate = LanguageGate(LanguageConfig(), "code")
    assert gate.removed([GERMAN, RUSSIAN, CODE, ""]) == [None] * 4
    assert gate.confidence([GERMAN])[0] < 0.5, "but the confidence can be asked for"


def test_a_text_that_is_all_code_or_numbers_stays_where_such_texts_belong():
    texts = [CODE, "1 2 3 4 5 6 7 8 9 10"]
    for kind in ("docs", "chat"):
        assert LanguageGate(LanguageConfig(), kind).removed(texts) == [None, None]
    for kind in ("web", "books"):
        assert None not in LanguageGate(LanguageConfig(), kind).removed(texts)


def test_code_inside_a_page_does_not_change_what_language_the_page_is_in():
    gate = LanguageGate(LanguageConfig(), "docs")
    alone, with_code = gate.confidence([GERMAN, f"{GERMAN}\n{'```python' + chr(10) + ENGLISH + chr(10) + '```'}"])
    assert alone == with_code


def test_batches_may_be_cut_anywhere():
    gate = LanguageGate(LanguageConfig(), "web")
    texts = [ENGLISH, GERMAN, "", RUSSIAN, PAGE, CODE]
    assert np.array_equal(gate.confidence(texts), np.concatenate([gate.confidence([text]) for text in texts]))
    assert gate.confidence([]).shape == (0,) and gate.removed([]) == []


def test_the_limit_can_be_moved_and_zero_lets_everything_pass():
    assert LanguageGate(LanguageConfig(min_confidence=0), "web").removed([RUSSIAN, ""]) == [None, None]
    assert LanguageGate(LanguageConfig(judged_kinds=("books",)), "web").removed([RUSSIAN]) == [None]


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"min_confidence must be a probability, got 90"):
        LanguageConfig(min_confidence=90)
    with pytest.raises(UnknownNameError, match="unknown kind of source 'wbe'; did you mean 'web'"):
        LanguageConfig(judged_kinds=("wbe",))  # type: ignore
    with pytest.raises(UnknownNameError, match="unknown kind of source 'doc'; did you mean 'docs'"):
        LanguageGate(LanguageConfig(), "doc")  # type: ignore
