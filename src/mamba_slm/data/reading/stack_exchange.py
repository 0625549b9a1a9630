"""Stack Exchange's `Posts.xml`: one document per question with its answers, the best first.

Answers stand anywhere behind their question, so the posts go through a temporary SQLite database on disk (about as
large as the file, in SQLITE_TMPDIR or the system's place for such files), which sorts them in bounded memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from typing import Any

from mamba_slm.core.errors import DataError, DiskFullError
from mamba_slm.data.document import Document
from mamba_slm.data.reading.html_text import plain_html
from mamba_slm.data.reading.source_file import SourceFile
from mamba_slm.data.reading.xml_records import xml_records

QUESTION, ANSWER = "1", "2"
CACHE_KIB = 65_536
COLUMNS = "question INTEGER, is_answer INTEGER, score INTEGER, post INTEGER, title TEXT, tags TEXT, date TEXT, "
COLUMNS += "license TEXT, body TEXT"
BEST_FIRST = "SELECT * FROM posts ORDER BY question, is_answer, score DESC, post"


def stack_exchange_documents(source: SourceFile) -> Iterator[Document | DataError]:
    """Questions by their number, which ends their id, after the problems of the file.

    Posts that are neither questions nor answers, and answers whose question is absent, are left out and counted.

    Raises:
        DiskFullError: the temporary database has no room.
    """
    with closing(sqlite3.connect("")) as database:
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute(f"CREATE TABLE posts ({COLUMNS})")
        try:
            with source.open() as stream:
                for line, row in xml_records(source, stream, begin=b"<row ", end=b"/>"):
                    post = row if isinstance(row, DataError) else post_of(source, dict(row.items()), line)
                    if isinstance(post, DataError):
                        yield post
                    elif post is not None:
                        database.execute(f"INSERT INTO posts VALUES ({', '.join('?' * len(post))})", post)
            for _, thread in groupby(database.execute(BEST_FIRST), key=lambda post: post[0]):
                found = thread_document(source, thread)
                if found is not None:
                    yield found
        except sqlite3.OperationalError as error:
            if "full" not in str(error):
                raise
            raise DiskFullError(
                f"no room to sort the posts of {source.file}",
                hint="point SQLITE_TMPDIR to a folder with as much room as the file is large",
            ) from error


def post_of(source: SourceFile, row: dict[str, str], line: int) -> tuple[Any, ...] | DataError | None:
    """A row of the database, the problem with the post, or None for what is no post of a thread."""
    kind = row.get("PostTypeId")
    if kind not in (QUESTION, ANSWER):
        source.leave_out("posts that are neither question nor answer")
        return None
    try:
        number, score = int(row["Id"]), int(row.get("Score", 0))
        question = int(row["ParentId"]) if kind == ANSWER else number
        body = row["Body"]
    except (KeyError, ValueError) as error:
        what = f"without {error.args[0]}" if isinstance(error, KeyError) else f"with a wrong number: {error}"
        return DataError(
            f"{source.place(line)}: a post {what}",
            hint="leave such posts out: --on-error skip",
        )
    title, tags = row.get("Title", ""), row.get("Tags", "")
    return (
        question,
        kind == ANSWER,
        score,
        number,
        title,
        tags,
        row.get("CreationDate"),
        row.get("ContentLicense"),
        body,
    )


def thread_document(source: SourceFile, thread: Iterator[tuple[Any, ...]]) -> Document | DataError | None:
    """The document of a question and its answers; None without the question."""
    number, is_answer, score, _, title, tags, date, license, body = next(thread)
    if is_answer:
        for _ in range(1 + sum(1 for _ in thread)):
            source.leave_out("answers without their question")
        return None
    parts = [f"Question: {title}" if title else "Question", text_of(source, body)]
    licenses = {license or "CC BY-SA"}
    num_characters, num_answers = len(body), 0
    for _, _, _, _, _, _, _, answer_license, answer in thread:
        num_answers += 1
        num_characters += len(answer)
        if num_characters > source.options.max_document_bytes:
            return source.too_long(number, "the question with its answers")
        licenses.add(answer_license or "CC BY-SA")
        parts += ["Answer:", text_of(source, answer)]
    metadata = {
        "title": title,
        "tags": [tag for tag in tags.replace("|", "<").replace(">", "").split("<") if tag],
        "score": score,
        "answers": num_answers,
        "date": date,
        "license": ", ".join(sorted(licenses)),
    }
    return source.document("\n\n".join(part for part in parts if part), number, metadata)


def text_of(source: SourceFile, body: str) -> str:
    """A post's HTML as the options want it."""
    return plain_html(body, main_content=False) if source.options.markup == "plain" else body
