"""The same shards from a Ray cluster."""

import json

import pytest

from mamba_slm.data.tokenization.tokenize import tokenize

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_ray_writes_the_same_bytes(tokenizer, tmp_path):
    pytest.importorskip("ray")
    from mamba_slm.data.engine.ray_cluster import RayEngine

    lines = [json.dumps({"text": f"{number} words " * (number % 50)}) for number in range(1, 2000)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n")
    folders = [
        tokenize(
            [str(tmp_path / "x.jsonl")],
            tokenizer,
            tmp_path / name,
            part_bytes=100_000,
            make_engine=make_engine,
        ).folder
        for name, make_engine in (
            ("here", None),
            ("ray", lambda folder, configuration: RayEngine(2, folder=folder, configuration=configuration)),
        )
    ]
    here, ray = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert here == ray
