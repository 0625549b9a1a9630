"""Parts of input that is in S3 or the like: a worker fetches the files of its part, one at a time, and reads them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import DataError
from mamba_slm.data.document import Document
from mamba_slm.data.readers import counted_documents
from mamba_slm.data.reading.options import ReadOptions
from mamba_slm.data.reading.report import ReadReport
from mamba_slm.data.reading.source_file import SourceFile
from mamba_slm.data.storage import RemoteFile, fetched, list_files

PREFIX = f"mamba-slm-fetched-{os.getuid()}-"


@dataclass(frozen=True, kw_only=True)
class RemotePart:
    """Whole files; those of one part are read one after the other, so that only one at a time is on this machine."""

    files: tuple[RemoteFile, ...]
    source: str
    """The address as the user gave it."""

    options: ReadOptions

    @property
    def name(self) -> str:
        """The first file, which version of it, and how many follow."""
        first, *others = self.files
        more = f" and {len(others)} more" if others else ""
        return f"{first.address} {first.version}{more}"

    @property
    def size_bytes(self) -> int:
        """Bytes in the storage."""
        return sum(file.size_bytes for file in self.files)

    def documents(self, report: ReadReport) -> Iterator[Document]:
        """As `InputPart.documents`; places in errors are addresses."""
        with scratch_folder() as scratch:
            for file in self.files:
                known = len(report.problems)
                try:
                    with fetched(file, scratch) as path:
                        yield from counted_documents(
                            SourceFile(
                                file=path, name=file.name, source=self.source, options=self.options, report=report
                            )
                        )
                except DataError as problem:
                    if self.options.on_error == "stop":
                        raise placed(problem, scratch, file) from problem
                    report.add_problem(problem)
                report.problems[known:] = [placed(problem, scratch, file) for problem in report.problems[known:]]
                report.num_files += 1


def remote_parts(address: str, options: ReadOptions, *, part_bytes: int) -> list[RemotePart]:
    """The files at an address in groups of about `part_bytes`; none of them is cut.

    Raises:
        DataError: there is nothing to read.
        SetupError, MissingDependencyError: as `list_files`.
    """
    parts: list[RemotePart] = []
    group: list[RemoteFile] = []
    for file in [*list_files(address, options.pattern), None]:
        if group and (file is None or sum(one.size_bytes for one in group) + file.size_bytes > part_bytes):
            parts.append(RemotePart(files=tuple(group), source=address, options=options))
            group = []
        if file is not None:
            group.append(file)
    return parts


def placed(problem: DataError, scratch: Path, file: RemoteFile) -> DataError:
    """The same problem at the file's address."""
    path = str(scratch / file.name)
    return DataError(
        problem.message.replace(path, file.address), hint=problem.hint and problem.hint.replace(path, file.address)
    )


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for temporary files. Those of processes of this machine that were killed are deleted first."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if not (pid.isdigit() and is_alive(int(pid))):
            shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
