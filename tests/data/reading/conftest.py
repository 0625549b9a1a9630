"""One way to read a file with given options, for the tests of every format."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mamba_slm.data.document import Document
from mamba_slm.data.readers import read_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport


@dataclass
class Reading:
    """What came out of one reading."""

    documents: list[Document]
    report: ReadReport = field(repr=False)

    @property
    def texts(self):
        return [document.text for document in self.documents]

    @property
    def ids(self):
        return [document.id for document in self.documents]

    @property
    def problems(self):
        return [str(problem) for problem in self.report.problems]


@pytest.fixture
def read(tmp_path):
    """`read(name, content)` writes a file and reads it; `read(path)` reads one. Problems are skipped and counted."""

    def read(name, content=None, **options):
        file = Path(name)
        if content is not None:
            file = tmp_path / name
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
        report = ReadReport()
        options = ReadOptions(**{"on_error": "skip", **options})
        return Reading(documents=list(read_documents(file, options, report=report)), report=report)

    return read
