"""HumanEval and MBPP from the files in which their authors publish them, asked as lm-evaluation-harness 0.4.13 asks.

HumanEval: arXiv:2107.03374, 164 questions, no examples. MBPP: arXiv:2108.07732, tasks 11 to 510, three examples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mamba_slm.core.errors import DataError, UnknownNameError
from mamba_slm.data.compressed import open_bytes
from mamba_slm.tasks.code.question import CodeQuestion

HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
HUMANEVAL_TOKENS, MBPP_TOKENS = 1024, 256
MBPP_STOPS = ("[DONE]",)
MBPP_EXAMPLES = (2, 3, 4)
MBPP_TEST = range(11, 511)

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class CodeBenchmark:
    """A benchmark and where its questions come from."""

    name: str
    version: str
    """Of its prompts in lm-evaluation-harness."""

    num_fewshot: int
    file_names: tuple[str, ...]
    address: str
    """Where the file is published."""

    read: Callable[[Sequence[Record]], list[CodeQuestion]]

    def questions(self, data_dir: Path | None) -> list[CodeQuestion]:
        """All questions, from a local copy anywhere below the folder.

        Raises:
            DataError: there is none; says what to put where. Or the file is damaged.
        """
        path = self.find(data_dir)
        records: list[Record] = []
        with open_bytes(path) as file:
            for number, line in enumerate(file.read().split(b"\n"), start=1):
                if line.strip():
                    records.append(record_of(line, f"{path}:{number}"))
        try:
            found = self.read(records)
        except KeyError as error:
            raise DataError(f"{path} is no {self.name}: a record has no field {error}", hint=self.hint) from error
        if not found:
            raise DataError(f"{path} holds no question of {self.name}", hint=self.hint)
        return found

    def find(self, data_dir: Path | None) -> Path:
        """The local copy: in a folder of the benchmark's name first, else wherever it lies."""
        if data_dir is None:
            raise DataError(f"{self.name} is read from a local file", hint=f"{self.hint}, and name DIR with --data-dir")
        for name in self.file_names:
            near = [folder / name for folder in (data_dir / self.name, data_dir)]
            found = next((path for path in (*near, *sorted(data_dir.rglob(name))) if path.is_file()), None)
            if found is not None:
                return found
        raise DataError(f"no {' or '.join(self.file_names)} below {data_dir}", hint=self.hint)

    @property
    def hint(self) -> str:
        """What to put where."""
        return f"download {self.address} to DIR/{self.name}/"


def record_of(line: bytes, where: str) -> Record:
    """The object in a line of JSON.

    Raises:
        DataError: it is none.
    """
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}", hint="download the file again") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is not an object", hint="download the file again")
    return record


def humaneval(records: Sequence[Record]) -> list[CodeQuestion]:
    """A function's head and docstring, to be continued; the tests call it."""
    return [
        CodeQuestion(
            task=record["task_id"],
            number=number,
            prompt=record["prompt"],
            stops=HUMANEVAL_STOPS,
            max_new_tokens=HUMANEVAL_TOKENS,
            head=record["prompt"],
            tests=f"{record['test']}\ncheck({record['entry_point']})",
            solution=record["canonical_solution"],
        )
        for number, record in enumerate(records)
    ]


def mbpp(records: Sequence[Record]) -> list[CodeQuestion]:
    """A sentence and three tests, after three solved examples; the whole program is the answer."""
    by_number = {record["task_id"]: record for record in records}
    examples = "".join(
        f"{mbpp_prompt(by_number[number])}{by_number[number]['code']}\n[DONE]\n\n" for number in MBPP_EXAMPLES
    )
    return [
        CodeQuestion(
            task=f"MBPP/{task}",
            number=number,
            prompt=examples + mbpp_prompt(by_number[task]),
            stops=MBPP_STOPS,
            max_new_tokens=MBPP_TOKENS,
            head="",
            tests="\n".join([by_number[task].get("test_setup_code", ""), *by_number[task]["test_list"]]),
            solution=by_number[task]["code"],
        )
        for number, task in enumerate(task for task in MBPP_TEST if task in by_number)
    ]


def mbpp_prompt(record: Record) -> str:
    """A question as its paper puts it."""
    return (
        f"You are an expert Python programmer, and here is your task: {record['text']} "
        "Your code should pass these tests:\n\n" + "\n".join(record["test_list"][:3]) + "\n[BEGIN]\n"
    )


CODE_BENCHMARKS = {
    "humaneval": CodeBenchmark(
        name="humaneval", version="1.0", num_fewshot=0, file_names=("HumanEval.jsonl.gz", "HumanEval.jsonl"),
        address="https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz", read=humaneval,
    ),
    "mbpp": CodeBenchmark(
        name="mbpp", version="1.0", num_fewshot=3, file_names=("mbpp.jsonl", "mbpp.jsonl.gz"),
        address="https://raw.githubusercontent.com/google-research/google-research/master/mbpp/mbpp.jsonl", read=mbpp,
    ),
}  # fmt: skip


def code_benchmark(name: str) -> CodeBenchmark:
    """The benchmark of this name.

    Raises:
        UnknownNameError: there is none; names the nearest.
    """
    if name not in CODE_BENCHMARKS:
        raise UnknownNameError("benchmark of programs", name, CODE_BENCHMARKS)
    return CODE_BENCHMARKS[name]
