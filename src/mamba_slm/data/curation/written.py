"""The last task of a part: its documents without those below the quality cut and without duplicates.

OUT/part.jsonl.zst      what stays; absent where nothing does
OUT/removed.jsonl.zst   what goes, that of the chain first
OUT/tally.json          counts of what goes here, and of what stays
OUT/summary.json        documents, and the checksum of what stays
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from mamba_slm.core.files import folder_written_atomically, sha256_of_file, write_json_atomic
from mamba_slm.data.curation.boilerplate import JudgedDocument, without_boilerplate
from mamba_slm.data.curation.chained import REMOVED_FILE, masked
from mamba_slm.data.curation.duplicates.verdicts import Duplicates, Removal
from mamba_slm.data.curation.lines.find import BoilerplateFiles
from mamba_slm.data.curation.records import kept_line, lines_file, removed_line
from mamba_slm.data.curation.signals.score import TOP_SCORE
from mamba_slm.data.curation.surviving import Survivors
from mamba_slm.data.curation.tally import Tally
from mamba_slm.data.curation.verdict import Removed

BOTTOM = "quality.bottom"
KEPT_FILE = "part.jsonl.zst"
EXAMPLE_BYTES = 1000
NO_MORE: tuple[int, Removal | None] = (-1, None)


def write_part(
    part: Survivors,
    number: int,
    duplicates: Duplicates | None,
    *,
    boilerplate: BoilerplateFiles | None = None,
    min_characters: int = 1,
    keep_rejects: bool,
    out: Path,
) -> None:
    """Write the folder `out`.

    Args:
        part: what the chain has left.
        number: its place among the parts in which duplicates were looked for.
        duplicates: what was found; None where nothing was looked for.
        boilerplate: lines to take out of what stays, if any.
        min_characters: shortest text that stays when they are taken out.
        keep_rejects: write the texts of what goes, too.
    """
    tally = Tally()
    with folder_written_atomically(out) as folder:
        shutil.copyfile(part.folder / REMOVED_FILE, folder / REMOVED_FILE)
        with lines_file(folder / KEPT_FILE, "wb") as kept, lines_file(folder / REMOVED_FILE, "ab") as removed:
            documents = judged_documents(part, number, duplicates)
            if boilerplate is not None:
                documents = without_boilerplate(documents, boilerplate.read(), tally, min_characters=min_characters)
            for text, id, record, reason in documents:
                if reason is None:
                    tally.count_written(len(text))
                    kept.write(kept_line(text, record))
                else:
                    tally.count_removed(
                        reason,
                        id=id.decode(),
                        source=json.loads(record)["source"],
                        text=text[:EXAMPLE_BYTES].decode(errors="ignore"),
                        num_bytes=len(text),
                    )
                    removed.write(removed_line(record, reason, text if keep_rejects else None))
        tally.change_examples(masked)
        write_json_atomic(folder / "tally.json", tally.to_dict())
        removed_documents = sum(row.documents for row in tally.removed.values())
        summary = {"documents": tally.written.documents, "removed": removed_documents}
        if tally.written.documents:
            summary |= {"text_bytes": tally.written.bytes, "sha256": sha256_of_file(folder / KEPT_FILE)}
        else:
            (folder / KEPT_FILE).unlink()
        write_json_atomic(folder / "summary.json", summary)


def judged_documents(part: Survivors, number: int, duplicates: Duplicates | None) -> Iterator[JudgedDocument]:
    """Text, id and record of all documents that passed the chain, and why they go after all."""
    steps, lowest = part.steps(), part.cut.digits[0] / TOP_SCORE
    index = survivor = 0
    found = iter(()) if duplicates is None else zip(
        duplicates.verdicts(number)["index"].tolist(), duplicates.removals([number]), strict=True
    )  # fmt: skip
    copy, removal = next(found, NO_MORE)
    for block, stays in part.blocks():
        for (text, id, record), above in zip(block.rows(), stays.tolist(), strict=True):
            reason = None
            if not above:
                reason = Removed(rule=BOTTOM, value=int(steps[index]) / TOP_SCORE, threshold=lowest, detail="at least")
            elif survivor == copy and removal is not None:
                reason = removal.reason()
                copy, removal = next(found, NO_MORE)
            index += 1
            survivor += above
            yield text, id, record, reason
