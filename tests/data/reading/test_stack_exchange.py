import random
import sqlite3
from html import escape
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mamba_slm.core.errors import DiskFullError
from mamba_slm.data.reading import stack_exchange

POSTS = Path(__file__).parents[3].parent / "shared" / "data" / "corpora" / "stackexchange" / "Posts.xml"
needs_shared_data = pytest.mark.skipif(not POSTS.is_file(), reason="needs ../shared/data, which is not here")


def row(number, body, *, parent=None, kind=None, score=0, **fields):
    newline = "\n"
    kind = kind or (2 if parent else 1)
    fields = {"Id": number, "PostTypeId": kind, "Score": score, "Body": body, **fields}
    if parent is not None:
        fields["ParentId"] = parent
    return (
        "  <row "
        + " ".join(f'{name}="{escape(str(value)).replace(newline, "&#xA;")}"' for name, value in fields.items())
        + " />\n"
    )


def posts(*rows):
    return '<?xml version="1.0" encoding="utf-8"?>\n<posts>\n' + "".join(rows) + "</posts>\n"


def test_a_question_is_one_document_with_its_answers_the_best_first(read):
    content = posts(
        row(7, "<p>Why <code>a &lt; b</code>?</p>", Title="Less & more", Tags="<math><order>", score=3),
        row(8, "<p>low</p>", parent=7, score=1),
        row(12, "<pre><code>if a:\n    b\n</code></pre>", parent=7, score=9, ContentLicense="CC BY-SA 4.0"),
        row(9, "tag wiki", kind=5),
        row(20, "<p>late</p>", parent=404),
    )
    found = read("Posts.xml", content)
    assert found.texts == ["Question: Less & more\n\nWhy a < b?\n\nAnswer:\n\nif a:\n    b\n\nAnswer:\n\nlow"]
    assert found.ids == ["Posts.xml:7"]
    metadata = found.documents[0].metadata
    assert (metadata["tags"], metadata["answers"], metadata["score"]) == (["math", "order"], 2, 3)
    assert metadata["license"] == "CC BY-SA, CC BY-SA 4.0"
    assert found.report.left_out == {
        "posts that are neither question nor answer": 1,
        "answers without their question": 1,
    }
    assert "<p>low</p>" in read("Posts.xml", content, markup="raw").texts[0]


@given(order=st.randoms(use_true_random=False), threads=st.integers(1, 6), answers=st.integers(0, 4))
@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_the_order_of_the_posts_does_not_matter(read, order: random.Random, threads, answers):
    rows = [row(number, f"q{number}") for number in range(1, threads + 1)]
    rows += [row(100 * q + a, f"a{q}.{a}", parent=q, score=a) for q in range(1, threads + 1) for a in range(answers)]
    straight = read("Posts.xml", posts(*rows))
    order.shuffle(rows)
    assert read("Posts.xml", posts(*rows)).documents == straight.documents
    assert len(straight.documents) == threads


def test_a_broken_post_costs_only_itself(read, tmp_path):
    content = posts(row(1, "one"), '  <row Id="2" Body="<b" />\n', row("x", "three"), row(4, "four"))
    found = read("Posts.xml", content)
    assert found.ids == ["Posts.xml:1", "Posts.xml:4"]
    assert found.problems[0].startswith(f"{tmp_path}/Posts.xml:4 is not valid XML")
    assert (
        found.problems[1]
        == f"{tmp_path}/Posts.xml:5: a post with a wrong number: invalid literal for int() with base 10: 'x'"
    )


def test_a_thread_longer_than_the_limit_is_a_problem(read):
    content = posts(row(1, "x"), *[row(10 + n, "y" * 500, parent=1) for n in range(10)], row(2, "z"))
    found = read("Posts.xml", content, max_document_bytes=2000)
    assert found.ids == ["Posts.xml:2"] and "the question with its answers is longer than 1.95 KiB" in found.problems[0]


def test_no_room_for_the_sorting_is_said(read, monkeypatch):
    class Full(sqlite3.Connection):
        def execute(self, statement, *arguments):
            if statement.startswith("INSERT"):
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(statement, *arguments)

    connect = sqlite3.connect
    monkeypatch.setattr(stack_exchange.sqlite3, "connect", lambda name: connect(name, factory=Full))
    with pytest.raises(DiskFullError, match="no room to sort the posts") as caught:
        read("Posts.xml", posts(row(1, "one")))
    assert "SQLITE_TMPDIR" in str(caught.value.hint)


@needs_shared_data
def test_the_real_posts_of_a_site_in_utf16_are_joined(read):
    found = read(POSTS)
    assert len(found.documents) == 254 and not found.report.num_problems
    assert found.texts[0].startswith(
        "Question: Where's the old meta?\n\nWhere's the old meta.mathoverflow.net?\n\nAnswer:"
    )
    assert sum(document.metadata["answers"] for document in found.documents) > 300
    assert sum("</p>" in text for text in found.texts) < 5  # posts about HTML show it
