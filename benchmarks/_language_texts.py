"""The texts that the table of the English gate is made of, calibrated on and accepted with, in three parts by hash.

Every text (a sentence of langid, a paragraph of an article, a post, a page, a chunk of a book) belongs to one part by
the hash of its own bytes, so equal texts never stand on two sides: HELD_OUT of 20% that nothing looks at before the
acceptance test, CALIBRATION of 20%, TRAINING of 60%. Books in other languages than English are held out whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from mamba_slm.data.compressed import open_bytes
from mamba_slm.data.readers import read_documents

HELD_OUT, CALIBRATION = 0, 1
PARTS = 5
FUNCTION_WORDS = frozenset(
    ("the", "of", "and", "to", "in", "is", "for", "that", "with", "on", "was", "by", "this", "are")
)
PARAGRAPHS = re.compile(r"\n\s*\n")
MAX_CHUNKS_PER_BOOK = 40


def part_of(text: str) -> int:
    """One of five parts: `HELD_OUT`, `CALIBRATION`, and three of training."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % PARTS


def sentences(shared: Path) -> Iterator[tuple[str, str]]:
    """Language and sentence of every line of langid."""
    for path in sorted((shared / "curation" / "langid").glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield path.stem, line


def json_texts(path: Path, key: str = "text") -> Iterator[str]:
    """A field of every record of a JSON Lines file."""
    with open_bytes(path) as lines:
        for line in lines:
            if text := json.loads(line).get(key):
                yield text


def chunks(text: str, characters: int = 1500) -> Iterator[str]:
    """Paragraphs joined to pieces of at least so many characters."""
    kept = ""
    for paragraph in PARAGRAPHS.split(text):
        kept = f"{kept}\n\n{paragraph}" if kept else paragraph
        if len(kept) >= characters:
            yield kept
            kept = ""
    if kept:
        yield kept


def book(path: Path) -> str:
    """A book without the licence around it."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    start, end = re.search(r"\*\*\* ?START OF.*", text), re.search(r"\*\*\* ?END OF", text)
    return text[start.end() if start else 0 : end.start() if end else len(text)].replace("\r\n", "\n")


def has_function_words(text: str) -> bool:
    """Whether a page of a sample that is not all English is: a sixteenth of its words are the commonest of English."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return 16 * sum(word in FUNCTION_WORDS for word in words) >= len(words)


def english(shared: Path) -> Iterator[tuple[str, str]]:
    """Source and text of English documents, beside langid."""
    corpora = shared / "corpora"
    for text in json_texts(corpora / "c4" / "olmo_c4-sample.00000-of-00001.json.gz"):
        if has_function_words(text):
            yield "c4", text
    for document in read_documents(corpora / "stackexchange" / "Posts.xml"):
        yield "stackexchange", document.text
    for paper in json_texts(corpora / "arxiv" / "llmfoundry_arxiv.jsonl"):
        yield from (("arxiv", piece) for piece in chunks(paper))
    for article in (corpora / "wikipedia" / "llamafactory_wiki_demo.txt").read_text(encoding="utf-8").splitlines():
        yield from (("wikipedia", piece) for piece in chunks(re.sub(r"(?<=\.) (?=[A-Z])", "\n\n", article), 600))
    for path in sorted((corpora / "gutenberg").glob("en_*.txt")):
        pieces = list(chunks(book(path)))
        yield from (("books", piece) for piece in pieces[:: max(1, len(pieces) // MAX_CHUNKS_PER_BOOK)])
    for story in (
        (corpora / "tinystories" / "smallGPT_tiny_stories.txt").read_text(encoding="utf-8").splitlines()[:2000]
    ):
        if story.strip():
            yield "stories", story
    for answer in json_texts(shared / "instructions" / "dolly" / "dolly_hhrlhf_train_small.jsonl", "response"):
        yield "chat", answer


def code_words() -> list[str]:
    """Words of programs and commands, which are no language's, and stand in pages of every language."""
    return CODE_WORDS.split()


CODE_WORDS = """
abs abstract addr alloc api app append apt arch arg args argc argparse argv arr array arrays assert assign async attr
attrs auth auto await awk backend bash begin bin binary bits block bool boolean break buf buffer bug build byte bytes
cache callback calloc cargo case cast catch cd cfg char chars chdir chmod chown class classes classname cli client
clone cls cmd cmp code codec col column columns commit compile component conf config connect const constructor
container context continue cookie copy core count cpp cpu create cron css csv ctx cur curl cursor cwd daemon data
database datetime deb debug dec decl decode def default defer del delete deps dev dict diff dim dir dirname dirs disk
dns doc docker docs dom double drop dst dump echo elem element elif else elseif emit encode end enum env environ eof
err errno error eval event exc except exec exit expr extern fail false fd field fields file filename files filter
final finally flag flags flatten float flush fmt fn foo bar baz for foreach fork fprintf frame free frontend fs ftp
func function gcc get getattr getenv git github global goto grep gzip handler hardcoded hash header headers heap hex
host hostname href html http https icon id idx if ignore img impl import include index inf info init inline inner
input insert instance instanceof int interface ip isinstance item items iter java javascript join json jsx kernel key
keys kill kwargs label lambda len let lib library libs linux list listen load local localhost lock log logger login
logs loop ls lst main make makedirs malloc map markdown max md mem memcpy memory merge mesg meta method min mkdir mock
mod mode model module move msg mut mutex mysql name namespace nan net new nginx nil node none noreturn npm null num
number numpy obj object objects offset onclick open operator opt option options ord org os out output override pack
package param params parent parse parser password patch path paths pattern payload pid ping pip pipe pixel plugin pod
pool pop popen port pos post postgres pre prefix print printf printk priv private proc process prod prop props
protected proto proxy ptr public pull push put py python query queue quit raise rand random range raw read readline
readme realloc recv redirect ref refs regex register release remote remove render repo request res reset resolve
response rest result ret return root route row rows rpc rpm rsync run rust sandbox save scanf schema script sdk seek
select self send seq serialize server session set setattr setter setup shell signal size sizeof sleep slice socket
sort source spec split sql sqrt src ssh sshd ssl stack stat state static stderr stdin stdio stdout step stop str
stream string strip strlen struct stub style sub sudo sum super svg switch symlink sync syntax sys syscall system
systemctl tab table tag tar target task tbl tcp template temp terminal test tests text then this thread throw throws
time timeout timestamp title tmp todo token toml tool touch trait trim true try tuple txt type typedef typename typeof
typing udp ui uint undefined unicode union unix unlink unsigned unzip update upload url usb user username usr utf util
utils uuid val valid value values var vararg vec vector venv version view virtual vm void wait wget while widget width
with wrapper write xml xor yaml yield zip zlib zsh
"""
