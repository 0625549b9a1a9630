"""Wheel and sdist, the same bytes from the same commit: python deploy/package/build.py [FOLDER], by default dist/.

setuptools writes wheels whose bytes depend on the sources and SOURCE_DATE_EPOCH alone. Its sdists hold times, owners
and the order of the file system, so they are packed once more here.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
BEFORE_ANY_COMMIT = 315_532_800
"""1980, the first year that a zip file can say; for sources without a history."""


def epoch() -> int:
    """Seconds since 1970: SOURCE_DATE_EPOCH, else the time of the last commit."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    asked = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return int(asked.stdout) if asked.returncode == 0 else BEFORE_ANY_COMMIT


def repacked(sdist: bytes, *, seconds: int) -> bytes:
    """A tar.gz with the same files, in order of their names, of one time and of nobody."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist)) as old,
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=seconds) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = seconds, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


def main(folder: Path) -> int:
    """Build both; the exit code."""
    seconds = epoch()
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    done = subprocess.run(command, env=os.environ | {"SOURCE_DATE_EPOCH": str(seconds)}, check=False)
    if done.returncode:
        return done.returncode
    (sdist,) = folder.glob("*.tar.gz")
    sdist.write_bytes(repacked(sdist.read_bytes(), seconds=seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")))
