"""Evaluation tasks of plugins: the questions, and how they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class TaskPlugin:
    """A benchmark. The name of the entry point is that of the task."""

    questions: Callable[[], Mapping[str, Rows]]
    """Split -> rows, from files of the package: no network. Called when the task is asked."""
    config: Mapping[str, Any]
    """As a YAML file of lm-evaluation-harness says it, without `task` and where the data come from: output_type,
    test_split, doc_to_text, doc_to_choice, doc_to_target, metric_list, metadata.version and so on."""
