"""Rules remove what they name, say with which value, and leave good documents of every kind alone."""

import gzip
import json
import sysconfig
import textwrap
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from mamba_slm.core.errors import ConfigError, UnknownNameError
from mamba_slm.data.curation.signals.definition import measure
from mamba_slm.data.curation.signals.lengths import cut_long
from mamba_slm.data.curation.signals.native import measure_texts
from mamba_slm.data.curation.signals.ratios import QUANTITIES, RATIOS, quantity
from mamba_slm.data.curation.signals.rules import RULES, RulesConfig, broken_rules, judge, rules_of
from mamba_slm.data.curation.verdict import KINDS

SHARED = Path(__file__).parents[4].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which is not here")

GOOD = """The river had been rising since Monday, and by the end of the week nobody on the lower road slept well. Old
men who remembered the last flood carried their furniture upstairs; their grandchildren thought it was a game. On
Friday the schools closed.

My mother would not leave. She had lived in that house for forty years, she said, with water below and rain above, and
she did not intend to be moved by either. So we stayed with her, played cards by candlelight, listened to the radio. At
four in the morning something heavy struck the wall of the barn. What was it? When it grew light we saw a boat lying in
our garden, painted blue, with a name that I have never forgotten."""
ONE_LINE = " ".join(GOOD.split())
PLAIN = ONE_LINE.replace(".", "").replace("?", "") + " "


def rule_of(text, rules=RULES["web"]):
    (removed,) = judge(measure_texts([text]), rules)
    return removed and removed.rule.removeprefix("signals.")


def test_good_text_passes_all_kinds():
    assert {kind: rule_of(GOOD, rules) for kind, rules in RULES.items() if kind != "code"} == dict.fromkeys(
        set(KINDS) - {"code"}
    )


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("min_characters", "Too short."),
        ("max_characters", "word of that " * 80_000),
        (
            "min_words",
            "The incomprehensibility of uncharacteristically sesquipedalian institutionalization with more. " * 2,
        ),
        ("min_mean_word_length", "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3),
        ("max_mean_word_length", " ".join(f"electroencephalographically{i}" for i in range(60))),
        ("min_alphabetic_word_share", GOOD + " 1 2 3 4 5 6 7 8 9 10" * 6),
        ("min_distinct_stop_words", "der die das und ein nicht kommen gehen heute morgen " * 6),
        ("min_sentences", GOOD.replace(".", ",").replace("?", ",")),
        ("max_hash_marks_per_word", GOOD.replace(" the ", " the ## ")),
        ("max_ellipses_per_word", GOOD.replace("and ", "and... ").replace("the ", "the... ").replace(", ", "... ")),
        ("max_curly_bracket_share", GOOD.replace(" the ", " {the} ").replace(" and ", " {{and}} ")),
        ("max_digit_character_share", GOOD + "".join(f" a{7**40 + i}" for i in range(8))),
        ("max_upper_character_share", GOOD.upper().replace("THE", "the").replace(" AND ", " and ")),
        ("max_run_character_share", GOOD + " so" + "o" * 100),
        ("max_link_character_share", GOOD + " https://example.org/" + "path/" * 60),
        ("max_bullet_line_share", "\n".join("- " + part for part in ONE_LINE.replace(". ", "., ").split(", "))),
        ("max_ellipsis_line_share", GOOD.replace(". ", "...\n")),
        ("min_sentences_per_line", "\n".join(textwrap.wrap(PLAIN + PLAIN.replace("e", "a"), 40)) + "\nYes. No! Why?"),
        ("max_lorem_ipsum_lines", GOOD + " Lorem ipsum dolor sit amet."),
        ("max_javascript_line_share", ONE_LINE.replace("blue", "JavaScript")),
        ("max_policy_line_share", ONE_LINE.replace("a boat", "a privacy policy")),
        ("max_duplicate_line_share", GOOD + "\nGo home." * 6),
        (
            "max_duplicate_line_character_share",
            GOOD + 2 * "\nUncharacteristically incomprehensible institutionalization notwithstanding all this.",
        ),
    ],
)
def test_a_rule_removes_what_it_names(rule, text):
    assert rule_of(text) == rule


def test_repeated_words_break_the_rules_of_ngrams():
    alone = {name: None for name in RULES["web"].limits if "gram" not in name}
    rules = replace(RULES["web"], **alone)
    assert rule_of(GOOD, rules) is None
    assert rule_of(GOOD + " buy now" * 30, rules) == "max_top_2gram_share"
    assert rule_of(GOOD + " " + GOOD, rules) == "max_duplicate_5gram_share"


def test_a_reason_gives_value_and_limit():
    (removed,) = judge(measure_texts(["Too short."]), RULES["web"])
    assert str(removed) == "signals.min_characters: 10, allowed is at least 100"
    assert removed.value == 10 and removed.threshold == 100


def test_limits_themselves_are_allowed():
    for size, expected in ((99, "min_characters"), (100, None), (1_000_000, None), (1_000_001, "max_characters")):
        only_length = RulesConfig(
            **{**dict.fromkeys(RULES["web"].limits), "min_characters": 100, "max_characters": 1_000_000}
        )
        assert rule_of("x" * size, only_length) == expected


def test_every_rule_names_a_quantity_and_can_be_left_out():
    assert all(field.name.partition("_")[2] in QUANTITIES for field in fields(RulesConfig))
    assert not RulesConfig(**dict.fromkeys(field.name for field in fields(RulesConfig))).limits


def test_impossible_limits_are_refused():
    with pytest.raises(ConfigError, match="min_characters 200 is above max_characters 100"):
        RulesConfig(min_characters=200, max_characters=100)
    with pytest.raises(ConfigError, match="must not be negative"):
        RulesConfig(max_top_2gram_share=-0.1)
    with pytest.raises(UnknownNameError, match="did you mean 'books'"):
        rules_of("book")


def test_ratios_are_exact_quotients_and_zero_without_a_denominator():
    texts = ["", "a b cc.\n\na", GOOD]
    matrix = measure_texts(texts)
    for name, (numerator, denominator) in RATIOS.items():
        for text, value in zip(texts, quantity(matrix, name).tolist(), strict=True):
            signals = measure(text)
            divisor = getattr(signals, denominator)
            assert value == (getattr(signals, numerator) / divisor if divisor else 0)


def test_a_batch_is_judged_like_its_texts_alone():
    texts = [GOOD, "short", GOOD * 9, ""]
    assert judge(measure_texts(texts), RULES["web"]) == [
        judge(measure_texts([text]), RULES["web"])[0] for text in texts
    ]
    assert broken_rules(measure_texts([]), RULES["web"]).shape == (0, len(RULES["web"].limits))


def share_kept(texts, kind):
    return np.mean([removed is None for removed in judge(measure_texts(texts), RULES[kind])])


def test_code_is_left_alone():
    folder = Path(sysconfig.get_path("stdlib"))
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.py"))]
    assert share_kept([text for text in texts if 100 <= len(text) <= 1_000_000], "code") >= 0.99


@needs_data
def test_books_are_kept():
    paths = sorted((SHARED / "corpora" / "gutenberg").glob("en_*-0.txt"))[:8]
    texts = [path.read_text(encoding="utf-8-sig") for path in paths]
    parts = [part for text in texts for part in cut_long(text, max_characters=50_000)]
    assert len(parts) > 100 and share_kept(parts, "books") >= 0.97
    assert share_kept([part for text in texts for part in cut_long(text, max_characters=1_000_000)], "books") == 1


@needs_data
def test_encyclopedia_articles_pass_the_rules_for_web_pages():
    lines = (SHARED / "corpora" / "wikipedia" / "llamafactory_wiki_demo.txt").read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if len(line) >= 500]
    removed = [removed for removed in judge(measure_texts(texts), RULES["web"]) if removed]
    assert len(texts) == 30 and [reason.rule for reason in removed] == ["signals.min_sentences"]  # "… may refer to:"


@needs_data
def test_answers_are_kept():
    with gzip.open(SHARED / "instructions" / "hh-rlhf" / "harmless-base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["chosen"] for line in file]
    assert share_kept([text for text in texts if len(text) >= 100], "chat") >= 0.97
