"""`mamba-slm export`: write a model in another format. Each format is a module of its own, loaded when it is used.

Plugins add further ones."""

from __future__ import annotations

import argparse
import importlib
import importlib.util

from mamba_slm.cli import export_plugin
from mamba_slm.cli.adapter_flags import add_adapter_flag, whole_model
from mamba_slm.core.plugins import all_plugins, plugin_names

FORMATS = {
    "hf": ("mamba_slm.cli.export_hf", "a folder that transformers loads with its own GraniteMoeHybrid class"),
    "gguf": ("mamba_slm.cli.export_gguf", "one file for llama.cpp, Ollama and LM Studio"),
    "onnx": ("mamba_slm.cli.export_onnx", "a folder for ONNX Runtime, onnxruntime-genai and transformers.js"),
}
"""Subcommand -> (module with `configure` and `run`, one line of help)."""

EPILOG = """\
Nothing is written that was not verified: the result is opened again with the other side's own code and compared with
the model. A failed check exits 6, names the first layer that drifts, and leaves nothing.

examples:
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The subcommands whose modules are there, with their arguments."""
    commands = parser.add_subparsers()
    examples = []
    for name, (module, help_line) in FORMATS.items():
        if importlib.util.find_spec(module) is None:
            continue
        command = commands.add_parser(name, help=help_line, description=f"Write {help_line}.")
        importlib.import_module(module).configure(command)
        add_adapter_flag(command)
        listed = (command.epilog or "").partition("examples:\n")[2].splitlines()
        examples += [line for line in listed[:1] if line.strip()]
    for name in plugin_names("exporters", own=FORMATS):
        help_line = f"a format of {' and '.join(str(each) for each in all_plugins() if each.name == name)}"
        command = commands.add_parser(name, help=help_line, description=f"Write {help_line}.")
        export_plugin.configure(command)
        add_adapter_flag(command)
    parser.epilog = EPILOG + "\n".join(examples) + "\n"


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    with whole_model(args) as args.model:
        if args.subcommand not in FORMATS:
            return export_plugin.run(args)
        return importlib.import_module(FORMATS[args.subcommand][0]).run(args)
