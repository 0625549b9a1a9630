"""However many processes share a model, a look into its layers sees the same."""

import pytest

from mamba_slm.runs.layout import RunDirectory
from mamba_slm.runs.metrics import read_metrics
from training.distributed.rank_program import train_in_world
from training.distributed.ranks import in_ranks

SETTINGS = {"max_steps": 4, "batch_tokens": 256, "micro_batch_rows": 2, "layers_every_steps": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [{"engine": "ddp"}, {"engine": "fsdp"}, *({"engine": "deepspeed", "zero_stage": stage} for stage in (1, 2, 3))],
    ids=lambda engine: "-".join(map(str, engine.values())),
)
def test_two_processes_see_what_one_sees(tmp_path, make_trainer, train_shards, validation_shards, engine):
    if engine["engine"] == "deepspeed":
        pytest.importorskip("deepspeed", reason="ZeRO needs the extra `scale`")
    alone = make_trainer("alone", **SETTINGS)
    alone.train()
    run = RunDirectory(tmp_path / "shared")
    run.checkpoints_folder.mkdir(parents=True)
    settings = {**SETTINGS, **engine}
    in_ranks(train_in_world, 2, run.path, train_shards.folder, validation_shards.folder, settings)
    expected, found = (read_metrics(each.metrics_file, kind="layers") for each in (alone.run, run))
    assert [row["step"] for row in found] == [1, 2, 4]
    for mine, others in zip(found, expected, strict=True):
        assert mine["update_ratios"] == pytest.approx(others["update_ratios"], rel=1e-3)
        for name in ("step_sizes", "decay_lives"):
            counts, wanted = (row[name]["counts"]["0 M"] for row in (mine, others))
            assert sum(counts) == sum(wanted)
            moved = sum(abs(a - b) for a, b in zip(counts, wanted, strict=True))
            assert moved <= 4  # values at the border of two bins
