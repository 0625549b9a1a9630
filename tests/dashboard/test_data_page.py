"""What lies here, and a look into it: documents page by page, tokens, and exactly the mask that the loss gets."""

import gzip
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dashboard.made_data import CHATS, TALES, make_data, write_lines
from dashboard.made_evaluations import make_evaluation
from dashboard.made_pairs import pairs_to_rate
from dashboard.made_runs import EVIL, client_of, parse
from mamba_slm.core.errors import ConfigError
from mamba_slm.dashboard.forms_data import CountForm, DownloadForm
from mamba_slm.dashboard.reading.cursors import Cursors
from mamba_slm.data.curation.duplicates.definition import jaccard, shingles_of
from mamba_slm.runs.jobs import list_jobs

OWN = {"Origin": "http://localhost:8888"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Tales, chats, a tokenizer and shards; tests only add to it."""
    home = tmp_path_factory.mktemp("data")
    make_data(home)
    return home


def read(home, path, **asked):
    asked = {key: str(home / value) if key == "tokenizer" else value for key, value in asked.items()}
    answer = client_of(home).get("/api/data/documents", params={"path": str(home / path), **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_documents_come_page_by_page_and_in_their_order(home):
    client, seen, first = client_of(home), [], 0
    while True:
        asked = {"path": str(home / "tales.jsonl"), "first": first, "most": 20}
        page = client.get("/api/data/documents", params=asked).json()
        seen += [row["text"] for row in page["rows"]]
        if page["is_end"]:
            break
        first = page["next"]
    assert seen == TALES
    assert read(home, "tales.jsonl", first=3, most=1)["rows"][0]["text"] == TALES[3], "and from any number on"


def test_a_search_finds_what_holds_it_and_says_where(home):
    page = read(home, "tales.jsonl", search="TAILOR", most=3)
    assert [row["text"] for row in page["rows"]] == [tale for tale in TALES if "tailor" in tale][:3]
    assert [row["number"] for row in page["rows"]] == [number for number, tale in enumerate(TALES) if "tailor" in tale][
        :3
    ]
    assert read(home, "tales.jsonl", search="nowhere at all") | {"form": ""} == {
        "kind": "text", "form": "", "count": None, "rows": [], "next": len(TALES), "is_end": True,
        "command": f"mamba-slm data inspect {home / 'tales.jsonl'}",
    }  # fmt: skip


def test_near_duplicates_of_a_document_come_with_their_similarity_as_curation_measures_it(tmp_path):
    tale = TALES[0] + " " + TALES[1]
    texts = [
        tale,
        TALES[2],
        tale.upper() + "!",
        tale + " The end of it all.",
        " ".join(tale.split()[:-5]),
    ]
    write_lines(tmp_path / "some.jsonl", [{"text": text} for text in texts])
    page = read(tmp_path, "some.jsonl", like=0)
    exact = {number: jaccard(shingles_of(tale), shingles_of(text)) for number, text in enumerate(texts)}
    assert exact[1] < 0.5 < exact[3] < exact[4] < exact[2] == 1
    assert {row["number"]: row["similarity"] for row in page["rows"]} == {n: float(exact[n]) for n in (0, 2, 3, 4)}
    assert [row["number"] for row in read(tmp_path, "some.jsonl", like=0, search="the end of it")["rows"]] == [3]
    assert {row["similarity"] for row in read(tmp_path, "some.jsonl")["rows"]} == {None}
    asked = {"path": str(tmp_path / "some.jsonl"), "like": 9}
    refused = client_of(tmp_path).get("/api/data/documents", params=asked)
    assert refused.status_code == 400 and "no document 10 to compare" in refused.text


def test_the_mask_shown_is_the_one_that_the_loss_gets(home):
    from mamba_slm.data.conversations.read import read_conversations
    from mamba_slm.finetuning.collate import padded_batch
    from mamba_slm.finetuning.examples import encode_conversations
    from mamba_slm.finetuning.template import choose_template
    from mamba_slm.text.tokenizer import Tokenizer

    found = read_conversations(home / "chats.jsonl", say=lambda _: None)
    template = choose_template(home / "tokenizer", Tokenizer.load(home / "tokenizer"))
    for train_on in ("answers", "last-answer", "all"):
        encoded = encode_conversations(
            found.items[:3],
            template.tokenizer,
            template.text,
            context_tokens=512,
            train_on=train_on,
            say=lambda _: None,
        )
        batch = padded_batch(encoded.examples, pad_id=0)
        rows = read(home, "chats.jsonl", tokenizer="tokenizer", train_on=train_on, most=3)["rows"]
        for row, ids, labels in zip(rows, batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
            size = row["num_tokens"]
            assert [token[0] for token in row["tokens"]] == ids[:size]
            assert row["trained"] == [int(label != -100) for label in labels[:size]]
            assert not any(label != -100 for label in labels[size:])
            assert row["num_trained"] == sum(row["trained"])


def test_conversations_are_shown_as_turns_and_as_they_stand_in_the_file(home):
    page = read(home, "chats.jsonl", most=1)
    row = page["rows"][0]
    assert page["kind"] == "conversations"
    assert row["messages"] == CHATS[0]["messages"]
    assert '"role": "user"' in row["raw"]


def test_tokens_are_those_of_training_and_parts_of_characters_are_bytes(home):
    file = write_lines(home / "more.jsonl", [{"text": "Once — upon"}])
    row = read(home, file.name, tokenizer="tokenizer")["rows"][0]
    from mamba_slm.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(home / "tokenizer")
    assert [token[0] for token in row["tokens"]] == [
        tokenizer.bos_id,
        *tokenizer.encode("Once — upon"),
        tokenizer.eos_id,
    ]
    assert row["tokens"][0][2] == 2
    assert ["e2", 1] in [token[1:] for token in row["tokens"]]
    assert row["trained"] == [0, *[1] * (row["num_tokens"] - 1)]


def test_shards_are_read_from_any_document_on_with_the_tokenizer_that_made_them(home):
    page = read(home, "tales-tokens", tokenizer="tokenizer", first=100, most=2)
    assert (page["kind"], page["count"], page["next"]) == ("token shards", len(TALES), 102)
    assert [row["text"] for row in page["rows"]] == TALES[100:102]
    assert read(home, "tales-tokens", most=1)["rows"][0]["text"].replace(" ", "").isdigit(), "else they are numbers"


def test_shards_with_another_tokenizer_are_refused_with_the_reason(home, tmp_path):
    from mamba_slm.text.train_tokenizer import train_tokenizer

    (home / "other").mkdir()
    train_tokenizer(["another text " * 50], vocab_size=262).save(home / "other")
    asked = {"path": str(home / "tales-tokens"), "tokenizer": str(home / "other")}
    answer = client_of(home).get("/api/data/documents", params=asked)
    assert answer.status_code == 400
    assert "another tokenizer" in answer.json()["error"]


def test_what_cannot_be_read_stands_in_its_place_with_the_reason(home):
    file = write_lines(home / "broken.jsonl", [{"text": "one"}, "{not json", {"no": "text"}, {"text": "two"}])
    rows = read(home, file.name)["rows"]
    assert [row["text"] for row in rows] == ["one", "", "", "two"]
    assert "broken.jsonl:2" in rows[1]["problem"] and "broken.jsonl:3" in rows[2]["problem"]
    chats = write_lines(home / "broken-chats.jsonl", [*CHATS, {"messages": []}])
    assert read(home, chats.name)["rows"][-1]["problem"]


def test_a_large_document_is_cut_for_the_page_around_what_was_searched(home):
    (home / "long.txt").write_text("word " * 20_000 + "needle" + " word" * 20_000)
    row = read(home, "long.txt", search="needle", tokenizer="tokenizer")["rows"][0]
    assert row["characters"] == 200_006
    assert "needle" in row["text"] and row["begin"] > 90_000
    assert len(row["text"]) <= 12_000 and len(row["tokens"]) <= 4000
    assert row["is_part"], "its tokens are not those of the document"
    assert not any(row["is_part"] for row in read(home, "tales-tokens", tokenizer="tokenizer")["rows"])


def test_compressed_text_is_read_and_a_model_that_writes_scripts_does_no_harm(home):
    with gzip.open(home / "evil.txt.gz", "wt") as file:
        file.write(EVIL)
    assert read(home, "evil.txt.gz")["rows"][0]["text"] == EVIL
    assert EVIL not in client_of(home).get("/data/inspect").text


@pytest.mark.parametrize("path", ["", "../secret.txt", "/etc/passwd", "pipe", "no-such-file"])
def test_other_paths_are_refused(home, path):
    if not (home / "pipe").exists():
        os.mkfifo(home / "pipe")
    asked = path if path.startswith("/") or not path else str(home / path)
    assert client_of(home).get("/api/data/documents", params={"path": asked}).status_code in (400, 404)


def test_a_link_inside_a_folder_is_not_followed_out_of_it(tmp_path):
    home = tmp_path / "runs"
    (home / "texts").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("not yours")
    (home / "texts" / "mine.txt").write_text("mine")
    (home / "texts" / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert [row["text"] for row in read(home, "texts")["rows"]] == ["mine"]
    (home / "texts" / "mine.txt").unlink()
    answer = client_of(home).get("/api/data/documents", params={"path": str(home / "texts")})
    assert answer.status_code == 400 and "not yours" not in answer.text


def test_the_library_says_what_is_here_with_its_numbers(home):
    found = client_of(home).get("/api/data/library").json()
    rows = {row["path"]: row for row in found["found"]}
    shards = rows[str(home / "tales-tokens")]
    assert (shards["kind"], shards["documents"], shards["is_estimated"]) == ("token shards", len(TALES), False)
    tales = rows[str(home / "tales.jsonl")]
    assert (tales["kind"], tales["documents"], tales["is_estimated"]) == ("text", None, True)
    assert str(home / "tokenizer") in found["tokenizers"]
    assert not any("tokenizer.json" in path for path in rows)
    for preset in found["presets"]:
        if preset["command"]:
            parse(preset["command"].split()[1:])


def test_what_commands_of_ours_say_is_no_text_to_learn_from(home, tmp_path):
    make_evaluation(tmp_path / "evaluations" / "a")
    pairs_to_rate(tmp_path)
    (tmp_path / "tales.jsonl").write_bytes((home / "tales.jsonl").read_bytes())
    found = client_of(tmp_path).get("/api/data/library").json()["found"]
    here = [row["path"] for row in found if row["path"].startswith(str(tmp_path))]
    assert here == [str(tmp_path / "tales.jsonl")]


def test_a_damaged_manifest_is_said_and_hides_nothing_else(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "shards.json").write_text("{}")
    (tmp_path / "good.txt").write_text("x" * 2000)
    rows = client_of(tmp_path).get("/api/data/library").json()["found"]
    mine = {row["path"]: row for row in rows if row["path"].startswith(str(tmp_path))}
    assert mine[str(tmp_path / "bad")]["problem"]
    assert mine[str(tmp_path / "good.txt")]["bytes"] == 2000


def test_pages_that_were_read_last_go_on_where_they_ended():
    begun = []

    def begin(_first):
        begun.append(1)
        return iter(range(100)), 0

    cursors = Cursors()

    def page(first, most=10, wanted=lambda _: True):
        return cursors.read("key", begin, first=first, most=most, is_wanted=wanted)

    assert [item for _, item in page(0).items] == list(range(10))
    assert [item for _, item in page(10).items] == list(range(10, 20))
    assert len(begun) == 1
    assert [item for _, item in page(5, 2).items] == [5, 6]
    assert len(begun) == 2, "backwards it begins again"
    assert [number for number, _ in page(20, 3, lambda item: item % 7 == 0).items] == [21, 28, 35]
    assert page(95).is_end
    ticks = iter(range(1000))
    slow = cursors.read("key", begin, first=0, most=10, is_wanted=lambda _: False, clock=lambda: next(ticks))
    assert not slow.is_end and 0 < slow.next < 10, "it says how far it came when the time is up"


@pytest.mark.parametrize(
    "words",
    [
        CountForm(path="a b.jsonl", tokenizer="runs/x", key="content").words(),
        CountForm(path="-x").words(),
        CountForm(path="chats.jsonl", tokenizer="x", kind="conversations").words(),
        DownloadForm(name="tinystories").words(),
    ],
)
def test_the_forms_give_commands_that_exist(words):
    args = parse(words[1:])
    assert args.subcommand in ("inspect", "download")


def test_forms_with_other_fields_or_none_are_refused_and_read_only_starts_nothing(home):
    for body in ({"evil": "x"}, {"path": 1}, {"path": "x" * 5000}, {}):
        with pytest.raises(ConfigError):
            CountForm.of(body).words()
    client = client_of(home, is_read_only=True)
    for path, body in (("count", {"path": "x"}), ("download", {"name": "c4"})):
        assert client.post(f"/api/data/{path}", json=body, headers=OWN).status_code == 400
    assert list_jobs(home) == []
    assert 'id="count"' not in client.get("/data/inspect").text


def test_the_pages_load_no_tokenizers_and_no_numpy_before_they_need_them():
    code = (
        "import sys, mamba_slm.dashboard.routes.data\n"
        "print([name for name in ('torch', 'numpy', 'tokenizers', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_stream_is_read_by_one_thread_whoever_asks_and_closed_when_others_came():
    threads, closed = [], []

    def items():
        try:
            for number in range(100):
                threads.append(threading.get_ident())
                yield number
        finally:
            closed.append(threading.get_ident())

    cursors = Cursors()

    def page(key, first):
        return cursors.read(key, lambda _: (items(), 0), first=first, most=5, is_wanted=lambda _: True)

    with ThreadPoolExecutor(max_workers=2) as askers:
        for first in range(0, 50, 5):
            assert askers.submit(page, "one", first).result().next == first + 5
    assert len(set(threads)) == 1
    one = cursors.open["one", 50]
    for key in "abcd":
        page(key, 0)
    assert ("one", 50) not in cursors.open
    one.thread.shutdown(wait=True)
    assert closed == [threads[0]], "closed by the thread that read it"


def test_pages_of_a_dump_that_is_sorted_in_a_data_base_follow_each_other(home):
    posts = "".join(
        f'<row Id="{number}" PostTypeId="1" Title="Question {number}" Body="&lt;p&gt;Why {number}?&lt;/p&gt;" />'
        for number in range(1, 30)
    )
    (home / "Posts.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?><posts>{posts}</posts>')
    client = client_of(home)
    asked = {"path": str(home / "Posts.xml"), "most": 4}
    pages = [client.get("/api/data/documents", params={**asked, "first": first}).json() for first in range(0, 20, 4)]
    assert [len(page["rows"]) for page in pages] == [4] * 5
    assert "Question 1" in pages[0]["rows"][0]["text"]
