"""Where a model comes from is read from reports, records, cards and jobs, as far back as they go."""

import dataclasses
import json
import shlex

from dashboard.made_models import make_adapter, make_hf, make_model, make_onnx, make_quantized
from dashboard.made_runs import make_run
from mamba_slm.dashboard.reading.checks import checks_of, lines_of
from mamba_slm.dashboard.reading.lineage import lineage_of, origin_of
from mamba_slm.dashboard.reading.models import model_at
from mamba_slm.runs.jobs import Job
from mamba_slm.runs.record import read_record, write_record


def everywhere(_path):
    return True


def tuned_run(home, name, kind, base):
    settings = f"{kind}:\n  model: {base}\n  method: lora\n  data: [faq.jsonl]\n"
    run = make_run(home, name, config=settings)
    write_record(run.record_file, dataclasses.replace(read_record(run.record_file), kind=kind))
    make_model(run.path / "model")
    return run


def job_of(folder, *words, log=""):
    path = folder / ".jobs" / "000007"
    path.mkdir(parents=True, exist_ok=True)
    (path / "log.txt").write_text(log)
    return Job(path=path, words=words, folder=str(folder), created=0.0, state="ended", exit_code=0)


def test_a_quantized_fine_tuned_model_leads_back_to_its_data(tmp_path):
    base = make_run(tmp_path, "base", config="train:\n  data: [web.txt]\n")
    make_model(base.path / "model")
    tuned = tuned_run(tmp_path, "tuned", "finetune", "base")
    small = model_at(make_quantized(tmp_path / "small", tuned.path / "model"))
    steps = lineage_of(small, [], everywhere)
    assert [origin.how for _, origin in steps] == [
        "quantized to int8, blocks of 32, by nearest",
        "fine-tuned (lora)",
        "trained from the beginning",
    ]
    assert [origin.data for _, origin in steps] == [(), ("faq.jsonl",), ("web.txt",)]


def test_a_run_that_began_with_weights_says_with_which(tmp_path):
    run = make_run(tmp_path, config="train:\n  initial: start\n  data: [more.txt]\n")
    make_model(run.path / "model")
    record = read_record(run.record_file)
    write_record(
        run.record_file, dataclasses.replace(record, command=("mamba-slm", "train", "--prompts", "Once there was"))
    )
    origin = origin_of(model_at(run.path), [])
    assert (origin.how, origin.model) == ("trained", tmp_path / "start")
    assert shlex.split(origin.command) == ["mamba-slm", "train", "--prompts", "Once there was"]


def test_a_converted_or_extended_run_names_the_first_argument_of_its_command(tmp_path):
    run = make_run(tmp_path, config="train:\n  model: nano\n")
    make_model(run.path / "model")
    record = dataclasses.replace(
        read_record(run.record_file), kind="extend", command=("mamba-slm", "extend", "old", "--to", "4x")
    )
    write_record(run.record_file, record)
    origin = origin_of(model_at(run.path), [])
    assert (origin.how, origin.model) == ("made for a longer context", tmp_path / "old")


def test_models_that_name_each_other_in_a_circle_end(tmp_path):
    make_quantized(tmp_path / "a", tmp_path / "b")
    make_quantized(tmp_path / "b", tmp_path / "a")
    assert len(lineage_of(model_at(tmp_path / "a"), [], everywhere)) == 2


def test_an_export_is_known_by_the_job_that_wrote_it(tmp_path):
    make_model(tmp_path / "m")
    exported = model_at(make_onnx(tmp_path / "out"))
    words = ("mamba-slm", "export", "onnx", "m", "--out", "out", "--weights", "int8")
    job = job_of(tmp_path, *words, log="talk\nverified  fused: largest difference of a logit 1e-06\nout  9 MiB\n")
    origin = origin_of(exported, [job])
    assert (origin.how, origin.model) == ("exported as onnx to int8", tmp_path / "m")
    assert origin_of(exported, [dataclasses.replace(job, exit_code=6)]) is None, "a job that failed wrote nothing"
    sources = {check.source: check.lines for check in checks_of(exported, [job])}
    assert sources["quantization.json"][0].startswith("int8: KL 1.0e-04 nats")
    assert ("verified  fused: largest difference of a logit 1e-06",) in sources.values()


def test_parity_is_read_from_the_card_and_the_report(tmp_path):
    (card,) = checks_of(model_at(make_hf(tmp_path / "hf")), [])
    assert (card.source, card.lines) == ("README.md", ("largest difference of a logit 1.1e-05",))
    (report,) = checks_of(model_at(make_quantized(tmp_path / "q")), [])
    assert "perplexity 72.3400 → 72.3500 (+0.01% ± 0.01%, one standard error)" in report.lines


def test_the_parts_that_cost_most_alone_are_named(tmp_path):
    folder = make_quantized(tmp_path / "q")
    report = json.loads((folder / "report.json").read_text())
    costs = {"embedding": 1e-5, "q_proj": 1e-7, "in_proj": 3e-3, "o_proj": 2e-7}
    report["parts"] = [
        {"name": name, "scheme": "int8", "mean_kl": kl, "perplexity_change": kl} for name, kl in costs.items()
    ]
    (folder / "report.json").write_text(json.dumps(report))
    (check,) = checks_of(model_at(folder), [])
    assert [line.split()[0] for line in check.lines if " alone, " in line] == ["in_proj", "embedding", "o_proj"]
    assert "in_proj alone, int8: KL 3.0e-03, perplexity +0.30%" in check.lines


def test_a_damaged_report_is_no_evidence(tmp_path):
    folder = make_quantized(tmp_path / "q")
    for content in ("{", "[]", json.dumps({"model": 3, "size": [], "quality": "x"})):
        (folder / "report.json").write_text(content)
        model = model_at(folder)
        assert (checks_of(model, []), lineage_of(model, [], everywhere)) == ([], [])


def test_an_adapter_names_its_base(tmp_path):
    found = model_at(make_adapter(tmp_path / "lora", "/models/base"))
    assert str(origin_of(found, []).model) == "/models/base"


def test_progress_is_no_result(tmp_path):
    job = job_of(tmp_path, "mamba-slm", "quantize", "m", log="measuring: 3 of 9\nKL   1e-05\nwriting 3 MiB\n")
    assert lines_of(job) == ("KL   1e-05",)


def test_of_measured_formats_the_table_is_the_result(tmp_path):
    log = "measuring: 3 of 9\nformat  method\nint8    nearest\nmeasured on 9 tokens\n"
    job = job_of(tmp_path, "mamba-slm", "quantize", "m", "--compare", "int8", log=log)
    assert lines_of(job) == ("format  method", "int8    nearest", "measured on 9 tokens")


def test_a_comparison_counts_for_the_model_that_was_compared_also_when_it_failed(tmp_path):
    reference, other = make_model(tmp_path / "m"), make_onnx(tmp_path / "out")
    job = job_of(tmp_path, "mamba-slm", "verify", "m", "out", log="      tokens  max logit error\ntext  64  0.3\n")
    job = dataclasses.replace(job, exit_code=6)
    assert checks_of(model_at(other), [job])[-1].lines == ("      tokens  max logit error", "text  64  0.3")
    assert checks_of(model_at(reference), [job]) == []
    assert checks_of(model_at(other), [dataclasses.replace(job, exit_code=1)])[1:] == []
