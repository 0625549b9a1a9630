"""Download a part of a source: as few files as the tokens need, each resumed, checked and then renamed.

    OUT/download.manifest       what is wanted and where it is from; written first, completed at the end
    OUT/PATH                a complete, checked file under its path in the repository
    OUT/PATH.partial        what has arrived of one; a later call goes on behind it

A kill at any moment leaves only complete files under their names.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mamba_slm.core.errors import DataError, DiskFullError, SetupError
from mamba_slm.core.files import write_json_atomic
from mamba_slm.core.units import format_bytes
from mamba_slm.data.sources.hub import HubFile, commit_of, endpoint, list_files, page_of
from mamba_slm.data.sources.manifest import MANIFEST, Known, manifest, read_manifest
from mamba_slm.data.sources.source import Source
from mamba_slm.data.sources.transfer import bytes_there, damage, fetch
from mamba_slm.data.sources.web import Web, is_offline, token_of_environment


@dataclass(frozen=True, kw_only=True)
class Download:
    """What lies in the folder in the end."""

    folder: Path
    source: Source
    commit: str
    files: tuple[HubFile, ...]
    """In the order in which they were chosen."""

    tokens: int
    """About how many tokens they hold."""

    fetched_bytes: int
    """What came over the network this time."""

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


def choose_files(source: Source, files: Sequence[HubFile], tokens: int | None) -> list[HubFile]:
    """As many files as the tokens need, in an order given by a hash of their paths; all of them for None.

    Data sets are sorted by crawl or by language: the first files are no sample. By hash the choice is mixed, the same
    everywhere, and more tokens only add files.
    """
    mixed = sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).digest())
    if tokens is None:
        return mixed
    chosen: list[HubFile] = []
    reached = 0
    for file in mixed:
        if reached >= tokens:
            break
        chosen.append(file)
        reached += source.tokens_in(file.path, file.size_bytes)
    return chosen


def download(
    source: Source,
    out: Path | str,
    *,
    tokens: int | None = None,
    web: Web | None = None,
    on_plan: Callable[[list[HubFile]], None] = lambda files: None,
    on_progress: Callable[[int], None] = lambda num_bytes: None,
) -> Download:
    """Fetch the files of a source into a folder; what is there already, complete or in part, is not fetched again.

    Args:
        source: from `load_sources`.
        out: the folder. One that holds another source, or another revision, is refused.
        tokens: about how many; None fetches everything.
        web: how requests are made; by default with the token in HF_TOKEN.
        on_plan: takes the chosen files before the first is fetched.
        on_progress: takes the bytes that are there now, also those found.

    Raises:
        DataError: a withdrawn source, a folder of something else, or files that stay damaged.
        SetupError: no access, no network, or the network is off and files are missing.
        DiskFullError: no room.
    """
    out = Path(out)
    if source.hub is None:
        raise DataError(f"{source.name} is withdrawn: {source.note or 'nobody offers it'}", hint=instead_of(source))
    web = Web(token=token_of_environment()) if web is None else web
    known = read_manifest(out, source)
    if is_offline(endpoint()):
        return found_offline(source, out, known, tokens)
    commit = known.commit if known else commit_of(web, source)
    chosen = choose_files(source, list_files(web, source, commit), tokens)
    on_plan(chosen)
    missing = sum(file.size_bytes - bytes_there(out, file) for file in chosen)
    require_room(out, missing)
    write_json_atomic(out / MANIFEST, manifest(source, commit, chosen, tokens, complete=False))
    fetched = 0
    for file in chosen:
        fetched += fetch(web, source, commit, file, out, on_progress)
    write_json_atomic(out / MANIFEST, manifest(source, commit, chosen, tokens, complete=True))
    return result_of(source, out, commit, chosen, fetched)


def result_of(source: Source, out: Path, commit: str, files: Sequence[HubFile], fetched: int) -> Download:
    """The result for these files."""
    tokens = sum(source.tokens_in(file.path, file.size_bytes) for file in files)
    return Download(folder=out, source=source, commit=commit, files=tuple(files), tokens=tokens, fetched_bytes=fetched)


def require_room(out: Path, missing_bytes: int) -> None:
    """Raise DiskFullError when the files cannot fit."""
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if missing_bytes > free:
        raise DiskFullError(
            f"{out} needs {format_bytes(missing_bytes)} more, but {format_bytes(free)} are free",
            hint="ask for fewer tokens with --tokens, or choose another folder with --out",
        )


def found_offline(source: Source, out: Path, known: Known | None, tokens: int | None) -> Download:
    """What an earlier download or a person put into the folder.

    Raises:
        SetupError: files are missing; names the folder to fill and the files.
    """
    if known is None:
        raise SetupError(
            f"the network is off (--offline), and {out} holds no download of {source.name}",
            hint=f"on a machine with network: mamba-slm data download {source.name} --out {out}, then copy the folder "
            f"here; or put the files {source.files} of {page_of(source)} into {out}, and read them from there",
        )
    missing = [file for file in known.files if damage(out / file.path, file) is not None]
    if missing:
        shown = ", ".join(file.path for file in missing[:20]) + (", …" if len(missing) > 20 else "")
        raise SetupError(
            f"the network is off (--offline), and {len(missing)} of {len(known.files)} files are missing or damaged "
            f"in {out}",
            hint=f"put these into {out}, from {page_of(source)} at {known.commit}: {shown}",
        )
    here = result_of(source, out, known.commit, known.files, 0)
    if tokens is not None and here.tokens < 0.9 * tokens:
        raise SetupError(
            f"the network is off (--offline), and {out} holds about {here.tokens:,} tokens of {source.name}, "
            f"not {tokens:,}",
            hint="ask for fewer tokens, or download more where there is a network",
        )
    return here


def instead_of(source: Source) -> str:
    """What to do without a withdrawn source."""
    own = "use your own copy of text that you may train on: mamba-slm data tokenize PATH"
    return own if source.instead is None else f"{own}; or: mamba-slm data download {source.instead}"
