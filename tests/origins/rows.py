"""The whole table: `docs/from-the-original.md` shows it, `test_rows` runs it, `test_originals` finds what it lacks."""

from __future__ import annotations

from origins import (
    rows_data,
    rows_features,
    rows_features_use,
    rows_models,
    rows_python,
    rows_scale,
    rows_summary,
    rows_train,
    rows_tuning,
)
from origins.row import Row, Section

SECTIONS: tuple[Section, ...] = (
    *rows_data.SECTIONS,
    *rows_train.SECTIONS,
    *rows_tuning.SECTIONS,
    *rows_models.SECTIONS,
    *rows_scale.SECTIONS,
    *rows_python.SECTIONS,
    *rows_summary.SECTIONS,
    *rows_features.SECTIONS,
    *rows_features_use.SECTIONS,
)
ROWS: tuple[Row, ...] = tuple(row for section in SECTIONS for row in section.rows)
