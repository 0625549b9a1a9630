"""What is done with a trained model: evaluate.py, production_eval.py, quantizing, ONNX, serving, the dashboard."""

from __future__ import annotations

from origins.asked import dashboard, served
from origins.originals import REPOSITORY
from origins.row import Section, file, gives, row, says

WRITE = "generate runs/lora Say --max-new-tokens 8 --temperature 0.8 --top-p 0.9 --seed 1 --runtime torch --json"
TIMES = "--task benchmark --num-runs 2 --lengths 16 --batches 1 --new-tokens 4 --json"
SPEED = f"eval runs/base {TIMES} --runtime torch"
ASK = "eval runs/base --benchmarks piqa,arc_easy --data-dir questions --limit 4 --out scores --json"
PERPLEXITY = "eval runs/base --perplexity text/00.txt --json"
METRIC = "`mamba-slm serve` at /metrics, with `deploy/prometheus` and `deploy/grafana`"

TALKING = (
    row(
        "evaluate.py",
        "evaluate.py --model_path",
        "evaluate.py --prompt",
        here='`mamba-slm generate RUN "Artificial intelligence is"`, or `mamba-slm chat RUN`',
        note="RUN is a run, a checkpoint, a model folder or an exported ONNX folder; a run of `finetune` brings its "
        "adapter",
        run=WRITE,
        holds=lambda seen: seen.json["prompt"] == "Say" and len(seen.json["completions"]) == 1,
    ),
    row(
        "evaluate.py --max_length",
        here="`--max-new-tokens 80`",
        note="new tokens; the prompt does not count",
        run=WRITE,
        holds=lambda seen: seen.json["completions"][0]["num_tokens"] <= 8,
    ),
    row(
        "evaluate.py --temperature",
        here="`--temperature 0.8`, the default; 0 is greedy",
        run=WRITE,
        holds=lambda seen: seen.json["settings"]["temperature"] == 0.8,
    ),
    row(
        "evaluate.py --top_p", here="`--top-p 0.9`", run=WRITE, holds=lambda seen: seen.json["settings"]["top_p"] == 0.9
    ),
    row(
        "evaluate.py --benchmark",
        "production_eval.py --num_runs",
        here="`mamba-slm eval RUN --task benchmark --num-runs 100`",
        note="reading and writing apart, percentiles instead of a mean whose first run pays for starting",
        run=SPEED,
        holds=lambda seen: seen.json["num_runs"] == 2 and seen.json["speeds"][0]["decode_tokens_per_second"] > 0,
    ),
)

SCORES = (
    row(
        "production_eval.py",
        "production_eval.py --model_path",
        "production_eval.py --benchmarks",
        here="`mamba-slm eval RUN --benchmarks all`",
        note="the questions, prompts and metrics of lm-evaluation-harness; `--data-dir` takes local copies of the "
        "questions",
        run=ASK,
        holds=lambda seen: {task["task"] for task in seen.json["tasks"]} == {"piqa", "arc_easy"},
    ),
    *(
        row(
            was,
            here=f"`mamba-slm eval RUN --benchmarks {name}`",
            note=note,
            run=f"eval runs/base --benchmarks {name} --data-dir {folder} --limit 2 --out scores-{name} --json",
            exits=0 if folder == "questions" else 5,
            holds=gives("tasks.0.scores") if folder == "questions" else says("nowhere"),
        )
        for was, name, folder, note in (
            ("MMLU", "mmlu", "nowhere", "57 subjects"),
            ("HellaSwag", "hellaswag", "questions", "length-normalised accuracy, too"),
            ("ARC-Easy", "arc_easy", "questions", ""),
            ("ARC-Challenge", "arc_challenge", "nowhere", ""),
            ("TruthfulQA", "truthfulqa", "nowhere", "mc1, mc2"),
            ("PIQA", "piqa", "questions", ""),
            ("WinoGrande", "winogrande", "nowhere", ""),
            ("BoolQ", "boolq", "nowhere", ""),
            ("GSM8K", "gsm8k", "questions", "exact match of the last number"),
            (
                "HumanEval",
                "humaneval",
                "nowhere",
                "programs run in a sandbox; `--samples 10` for pass@1 with an interval",
            ),
        )
    ),
    row(
        "production_eval.py --output",
        "production_eval.py --save_results",
        "results.json",
        here="`--out DIR`, which holds `results.json` and every answer; `--json` prints it",
        run=ASK,
        holds=file("scores/results.json", "scores/answers.jsonl"),
    ),
    row(
        "production_eval.py --batch_size",
        here="nothing: questions that begin alike are read once, and packed by tokens",
        note="`--batches 1,8` of `--task benchmark` times several at once",
        run="eval runs/base --benchmarks piqa --data-dir questions --batch-size 8",
        exits=2,
        holds=says("--batch-size"),
    ),
    row(
        "production_eval.py --task",
        "production_eval.py --dataset",
        here="`mamba-slm eval RUN --perplexity wikitext-2-raw/test.txt --stride 512`, and `--task benchmark`",
        note="any text; bits per byte, too, which do not depend on the tokenizer",
        run=PERPLEXITY,
        holds=lambda seen: seen.json["texts"][0]["bits_per_byte"] > 0 and seen.json["texts"][0]["word_perplexity"] > 0,
    ),
)

FORMATS = (
    row(
        "quantize_model.py",
        "quantize_model.py --model_path",
        "quantize_model.py --quantization",
        here="`mamba-slm quantize RUN --to int8`",
        note="int8, int4, nf4, fp4, int8-dynamic or mixed; `--max-drop 1%` refuses what costs more",
        run="verify runs/base small-int8 --tolerance 1 --tokens 16 --json",
        holds=lambda seen: seen.json["random"]["max_logit_error"] > 0,
    ),
    row(
        "quantize_model.py --output_dir",
        here="`--out FOLDER`",
        run="quantize small-int8 --to int8 --out twice",
        exits=2,
        holds=file("small-int8/model.safetensors", "small-int8/report.html", "small-int8/report.json"),
    ),
    row(
        "benchmark_quantized.py",
        "benchmark_quantized.py --model_path",
        here="`mamba-slm eval FOLDER --task benchmark`; what it costs in quality is in `FOLDER/report.html`",
        run=f"eval small-int8 {TIMES} --runtime torch",
        holds=lambda seen: seen.json["speeds"][0]["decode_tokens_per_second"] > 0,
    ),
    row(
        "export_onnx.py",
        "onnx_export.py",
        "export_onnx.py --model_path",
        "export_onnx.py --output_path",
        here="`mamba-slm export onnx RUN --out FOLDER`",
        note="a folder, since tokenizer and settings belong to it; run in ONNX Runtime and compared before it appears",
        run="verify runs/base base-onnx --tokens 16 --json",
        holds=lambda seen: seen.json["equal"] and file("base-onnx/onnx/model.onnx")(seen),
    ),
    row(
        "export_onnx.py --optimize",
        here="nothing: `--form fused` is the default, with the fused operators of ONNX Runtime",
        note="`--form portable` has standard operators only, `--weights int8` rounds",
        run="export onnx runs/base --out base-portable --form portable --json",
        holds=gives("graphs.portable"),
    ),
    row(
        "benchmark_onnx.py",
        "benchmark_onnx.py --onnx_path",
        here="`mamba-slm eval FOLDER --task benchmark`; beside PyTorch and llama.cpp: `mamba-slm bench RUN --onnx`",
        run=f"eval base-onnx {TIMES}",
        holds=lambda seen: "onnxruntime" in seen.json["runtime"],
    ),
)

SERVING = (
    row(
        "serve_model.py",
        "serve_model.py --model_path",
        "serve_model.py --port",
        here="`mamba-slm serve RUN --port 8000`",
        note="OpenAI's HTTP API instead of one of its own; keys, limits and adapters by name",
        run=served,
        holds=lambda seen: seen.value["first"]["usage"]["completion_tokens"] == 4 and seen.value["code"] == 0,
    ),
    row(
        "serve_model.py --workers",
        here="`mamba-slm serve RUN --port 8001`, once for each, behind `deploy/nginx`",
        note="one process batches all requests that share a model; more processes are for more cores or GPUs",
        run="serve runs/base --workers 4",
        exits=2,
        holds=says("--workers"),
    ),
    row(
        "serve_model.py --batch_size",
        here="`--max-running 32`",
        note="requests join and leave a running batch at every token, so this is a limit and no size",
        run=served,
        holds=lambda seen: len(seen.value["at_once"]["choices"]) == 8,
    ),
    row(
        "serve_model.py --enable_caching",
        here="nothing: `--prefix-cache-bytes 1Gi` is the default, 0 switches it off",
        note="a prompt that begins like one before is not read again",
        run=served,
        holds=lambda seen: (
            seen.value["again"]["choices"] == seen.value["first"]["choices"]
            and "prefix_cache_hits" in seen.value["metrics"]
        ),
    ),
    row(
        "Request latency",
        here=f"{METRIC}: histograms, of which p50, p95 and p99 are computed",
        run=served,
        holds=lambda seen: "time_to_first_token_seconds_bucket" in seen.value["metrics"],
    ),
    row("Throughput", here=METRIC, run=served, holds=lambda seen: "generation_tokens_total" in seen.value["metrics"]),
    row(
        "Error rate",
        here=METRIC,
        note="the alert `MambaSlmRequestsFail`",
        run=served,
        holds=lambda seen: "failed_requests_total" in seen.value["metrics"],
    ),
    row(
        "Memory usage",
        here=METRIC,
        run=served,
        holds=lambda seen: "process_resident_memory_bytes" in seen.value["metrics"],
    ),
    row(
        "GPU utilization",
        here=f"{METRIC}: memory of GPUs; utilization is NVIDIA's own exporter's",
        note="untried: no GPU was there",
        run=lambda workshop: (REPOSITORY / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"),
        holds=lambda seen: "gpu_memory_bytes" in seen.value,
    ),
    row(
        "launch_dashboard.py",
        here="`mamba-slm dashboard`, or `mamba-slm dashboard --window` for a window of Qt",
        note="the pages start the same commands; runs go on when it is closed",
        run=dashboard,
        holds=lambda seen: "base" in seen.value,
    ),
)

SECTIONS = (
    Section(
        title="Evaluation and talking",
        rows=(*TALKING, *SCORES),
        blocks=(
            ("evaluate.py --benchmark", "mamba-slm eval runs/lora --task benchmark"),
            (
                "evaluate.py --prompt",
                'mamba-slm generate runs/lora "Artificial intelligence is" --max-new-tokens 80 --temperature 0.8 '
                "--top-p 0.9",
            ),
            ("production_eval.py", "mamba-slm eval runs/1.3b --benchmarks all --out scores"),
        ),
    ),
    Section(
        title="Quantization and ONNX",
        rows=FORMATS,
        blocks=(
            ("quantize_model.py", "mamba-slm quantize runs/1.3b --to int8 --out models/int8"),
            ("export_onnx.py", "mamba-slm export onnx runs/1.3b --out models/onnx"),
        ),
    ),
    Section(
        title="Serving, monitoring, dashboard",
        rows=SERVING,
        blocks=(("serve_model.py", "mamba-slm serve runs/1.3b --port 8000 --max-running 32"),),
    ),
)
