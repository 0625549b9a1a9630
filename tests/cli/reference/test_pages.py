"""The reference is what the code says: fresh, whole, and its examples work."""

import importlib
import re
from pathlib import Path

import pytest

from mamba_slm.cli.main import load_command
from mamba_slm.cli.reference.errors import ADVICE, CODES, OF_COMMANDS, error_modules
from mamba_slm.cli.reference.metrics import ROWS
from mamba_slm.cli.reference.pages import PAGES
from mamba_slm.cli.reference.schemas import ELSEWHERE, SECTIONS
from mamba_slm.core.schema import fields_of
from mamba_slm.core.yaml_files import load_yaml
from promises.documents import parse

REPOSITORY = Path(__file__).parents[3]
SCHEMAS = [schema for _, _, schemas in SECTIONS for schema in schemas]
COMMANDS = {"train": [], "finetune": [], "align": [], "curate": ["curate", "text", "--kind", "web", "--out", "curated"]}


def dotted(mapping, prefix=""):
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_are_fresh(name):
    folder = REPOSITORY / "docs" / "reference"
    for file, text in PAGES[name]().items():
        assert (folder / file).read_text(encoding="utf-8") == text, f"{file} is stale: run `make docs`"


def test_a_command_that_is_gone_leaves_no_page():
    pages = PAGES["commands"]()
    there = (REPOSITORY / "docs" / "reference" / "commands").glob("*.md")
    assert {f"commands/{path.name}" for path in there} == set(pages) - {"cli.md"}


def test_every_config_has_a_section_or_a_reason_to_have_none():
    found = set()
    for path in (REPOSITORY / "src" / "mamba_slm").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "kw_only=True" in text:
            found |= set(re.findall(r"@dataclass\(frozen=True, kw_only=True\)\nclass (\w+(?:Config|Settings))\b", text))
    shown = {schema.path.rpartition(".")[2] for schema in SCHEMAS}
    assert found - shown == set(ELSEWHERE) & found
    assert not shown & set(ELSEWHERE)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.title)
def test_every_setting_on_the_page_says_what_it_means(schema):
    module, _, name = schema.path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    assert not [setting.name for setting in fields_of(cls) if not setting.doc]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_of_a_command_is_read_by_it(command, tmp_path):
    """Through the command's own reading of its flags and file; every key counts as coming from the file."""
    schema = next(schema for schema in SCHEMAS if f"/{command}.yaml" in f"/{schema.example[3:]}")
    file = tmp_path / "settings.yaml"
    file.write_text(schema.example, encoding="utf-8")
    module = importlib.import_module("mamba_slm.cli.data_curate" if command == "curate" else f"mamba_slm.cli.{command}")
    words = [*COMMANDS[command], "--config", str(file)]
    args = load_command("data" if command == "curate" else command)[1].parse_args(words)
    _, origins = module.settings_of(args) if command == "curate" else module.settings_of(args, None)
    assert {name for name, origin in origins.items() if str(file) in origin} >= set(dotted(load_yaml(file)))


def test_the_example_of_a_mixture_is_a_mixture(tmp_path):
    from mamba_slm.data.mixture_file import is_mixture_file, read_mixture_file

    file = tmp_path / "mixture.yaml"
    file.write_text(next(schema for schema in SCHEMAS if schema.title == "Mix").example, encoding="utf-8")
    assert is_mixture_file(file)
    plan = read_mixture_file(file)
    assert set(plan.sources) == {"web", "code"} and plan.changes[0].from_tokens == 10_000_000_000


def test_every_error_says_what_helps_and_no_other_does():
    assert list(ADVICE) == list(error_modules())


def test_the_exit_codes_are_those_of_the_errors():
    listed = {code for code, _, _ in CODES} - {"0"}
    errors = {getattr(importlib.import_module(module), name).exit_code for name, module in error_modules().items()}
    assert {str(code) for code in errors} == listed
    assert {code for _, code, _ in OF_COMMANDS} <= listed


def test_commands_that_the_errors_advise_exist():
    for text in [*ADVICE.values(), *(helps for _, _, helps in CODES)]:
        for line in re.findall(r"`mamba-slm ([^`]+)`", text):
            if not line.startswith("COMMAND"):
                parse(line.split())


def test_the_rows_of_a_run_have_the_keys_on_the_page():
    from mamba_slm.training.layers.report import LayerReport
    from mamba_slm.training.reports import SourceReport, StepReport, ValidationReport

    step = StepReport(
        step=1, tokens=2, seconds=3.0, loss=4.0, learning_rate=5.0, grad_norm=6.0, tokens_per_second=7.0, mfu=None,
        memory_bytes=8,
    )  # fmt: skip
    source = SourceReport(epochs=1.0, loss=2.0, bits_per_byte=3.0)
    validation = ValidationReport(step=1, tokens=2, loss=3.0, bits_per_byte=4.0, is_best=True, sources={"web": source})
    layers = LayerReport(step=1, tokens=2, update_ratios={}, step_sizes={}, decay_lives={})
    page = (REPOSITORY / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    for title, row in zip([title for title, _, _ in ROWS], [step, validation, source, layers], strict=True):
        table = page.partition(f"### {title}\n")[2].partition("\n#")[0]
        assert set(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == set(row.row()) - {"kind"}


def test_every_address_and_metric_of_a_server_is_on_the_pages():
    """Read from the sources, so that a page made from a server that lacks a part would be found."""
    folder, serving = REPOSITORY / "docs" / "reference", REPOSITORY / "src" / "mamba_slm" / "serving"
    metrics = "".join(path.read_text(encoding="utf-8") for path in (serving / "metrics").glob("*.py"))
    names = set(re.findall(r"\"((?:vllm|mamba_slm):\w+)\"", metrics))
    assert len(names) > 50
    page = (folder / "metrics.md").read_text(encoding="utf-8")
    assert not {name for name in names if not re.search(rf"`{name}(_total)?`", page)}
    routes = "".join(path.read_text(encoding="utf-8") for path in (serving / "api" / "routes").glob("*.py"))
    page = (folder / "http-api.md").read_text(encoding="utf-8")
    for verb, address in re.findall(r"@routes\.(get|post)\(\s*\"([^\"]+)\"", routes):
        assert f"`{verb.upper()} {address.replace(':path', '')}`" in page
