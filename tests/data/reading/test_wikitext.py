import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamba_slm.data.reading.wikitext import plain_wikitext

MARKS = [
    "{{",
    "}}",
    "[[",
    "]]",
    "{|",
    "\n|}",
    "|",
    "<ref>",
    "</ref>",
    "<math>",
    "</math>",
    "==",
    "''",
    "\n",
    "\0",
    "x y",
]


@pytest.mark.parametrize(
    ("wikitext", "plain"),
    [
        ("'''Bold''' and ''italic''", "Bold and italic"),
        ("a [[link]], a [[page|named link]], [[apple]]s", "a link, a named link, apples"),
        ("[[File:a.png|thumb|A [[nested]] caption]]Text", "Text"),
        ("[[Category:Things]][[fr:Chose]]Text [[:Category:Shown]]", "Text Category:Shown"),
        ("[[2001: A Space Odyssey]] and [[Re:Zero]]", "2001: A Space Odyssey and Re:Zero"),
        ("before {{Infobox|a={{nested|x}}|b=2}}after", "before after"),
        ("{{convert|5|km|mi}} of {{lang|fr|route}}", "5 km of route"),
        ("a<ref>source</ref> b<ref name=x /> c<ref group='n'>{{cite|t=[[u]]}}</ref>.", "a b c."),
        ("one\n{| class=x\n|-\n| cell\n{|\n| inner\n|}\n|}\ntwo", "one\n\ntwo"),
        ("see [https://example.org the site] and [https://example.org]", "see the site and"),
        ("== History ==\ntext\n=== Early ===\nmore", "History\ntext\n\nEarly\nmore"),
        ("* one\n** two\n# three\n: indented", "- one\n- two\n- three\nindented"),
        ("<!-- hidden -->a&nbsp;b &lt;tag&gt; <b>bold</b><br/>c", "a b <tag> boldc"),
        ("<math>e^{i\\pi_{{2}}} < 1</math> <nowiki>[[no link]]</nowiki>", "$e^{i\\pi_{{2}}} < 1$ [[no link]]"),
        ("<source lang=c>\nif (a)\n    b;\n</source>", "if (a)\n    b;"),
        ("text\n== See also ==\n* x\n== References ==\n{{reflist}}", "text"),
        ("text\n== References ==\nr\n== Legacy ==\nkept", "text\n\nReferences\nr\n\nLegacy\nkept"),
        ("an empty ( , ) bracket ()", "an empty bracket"),
        ("unbalanced {{template and [[link}}", "unbalanced"),
        ("never {{closed and [[open", "never closed and open"),
    ],
)  # fmt: skip
def test_what_a_reader_sees_stays(wikitext, plain):
    assert plain_wikitext(wikitext) == plain


def test_namespaces_of_other_languages_are_dropped_when_named():
    assert plain_wikitext("[[Файл:a.png|мини|x]]текст", dropped=frozenset({"файл"})) == "текст"


@given(text=st.lists(st.sampled_from(MARKS) | st.text(max_size=5), max_size=40).map("".join))
def test_any_text_gives_text(text):
    assert "\0" not in plain_wikitext(text)


@pytest.mark.parametrize("mark", [*MARKS, "[//a", "<math ", "( ", "=", " ", "{{a|", "[[a|", "<!--", "\n:", "&amp;"])
def test_a_hostile_page_of_one_mark_takes_linear_time(mark):
    """A quadratic step would take hours for a megabyte; the timeout of the tests would end it."""
    plain_wikitext("{{" + mark * (1_000_000 // len(mark)))
