"""Data: dataset_loader.py, download, filter and tokenize, the curated mixture."""

from __future__ import annotations

from origins.row import Section, file, gives, row, says, setting

CURATED = "data inspect curated --json"
CURATE_PLAN = "data curate text --kind code --out planned --dry-run --json"
DOWNLOADED = "data download wikitext-2 --out downloaded --tokens 100 --json"


LOADING = (
    row(
        "dataset_loader.py",
        "dataset_loader.py --dataset_name",
        "production_launch.py --dataset_name",
        "train.py --dataset",
        "download_datasets.py",
        here="`mamba-slm data download wikitext-2 --out wikitext`, then `--data wikitext`",
        note="`mamba-slm data sources` lists what it knows, `--sources FILE` adds to it; your own text needs no "
        "download: "
        "`--data FOLDER`",
        run=DOWNLOADED,
        holds=file("downloaded/wikitext-2-raw-v1/train-00000-of-00001.parquet", "downloaded/download.manifest"),
    ),
    row(
        "dataset_loader.py --dataset_config",
        here="a name of its own: `wikitext` is WikiText-103, `wikitext-2` is wikitext-2-raw-v1",
        run="data sources describe wikitext-2 --json",
        holds=says("wikitext-2-raw-v1"),
    ),
    row(
        "dataset_loader.py --split",
        here="nothing: a source is its training part; `--validation-share` or `--validation FILE` holds out",
        note="another part: its files in a YAML of `--sources FILE`",
        run="data inspect shards --json",
        holds=lambda seen: seen.code == 0 and file("shards/train/shards.json", "shards/validation/shards.json")(seen),
    ),
    row(
        "dataset_loader.py --max_samples",
        "production_launch.py --max_samples",
        "train.py --num_samples",
        here="`--tokens 1M` of `mamba-slm data download`, `--max-tokens` of `train`, `--limit` of `finetune`",
        note="pretraining counts tokens, since samples differ a thousandfold in length",
        run=DOWNLOADED,
        holds=lambda seen: seen.code == 0 and len(list((seen.here / "downloaded").rglob("*.parquet"))) == 1,
    ),
    row(
        "dataset_loader.py --output_dir",
        "download_datasets.py --cache_dir",
        here="`--out FOLDER`",
        note="a folder of yours, and no cache elsewhere; interrupted, it goes on where it stopped",
        run=DOWNLOADED,
        holds=file("downloaded/download.manifest"),
    ),
    row(
        "download_datasets.py --config",
        here="`mamba-slm data sources mixture`, then `mamba-slm data download NAME --out FOLDER` for each",
        run="data sources mixture --json",
        holds=lambda seen: abs(sum(seen.json["weights"].values()) - 1) < 1e-9 and len(seen.json["weights"]) == 8,
    ),
    row(
        "download_datasets.py --workers",
        here="nothing: one `data download` per source, several at once if you like",
        note="the network is the limit, and the hub asks for few connections",
        run="data download wikitext-2 --workers 32 --out other",
        exits=2,
        holds=says("--workers"),
    ),
)

CURATION = (
    row(
        "curate_production_dataset.py",
        "curate_dataset.py",
        "filter_datasets.py",
        here="`mamba-slm data curate web=crawl/ code=src/ --out curated`",
        note="language, quality, profanity, spam, personal data, benchmark questions, exact and near duplicates in one "
        "pass, with a report of what went and why",
        run=CURATED,
        holds=lambda seen: (
            seen.json["curated"]["num_documents"] == 28
            and file("curated/report.html", "curated/funnel.json", "curated/curation.json")(seen)
        ),
    ),
    row(
        "curate_production_dataset.py --config",
        "curate_dataset.py --config",
        here="`--config FILE`, a YAML; `mamba-slm data curate INPUT --out FOLDER --dry-run --json` shows every setting",
        note="the rules of `production` are the defaults; its eight sources are `mamba-slm data sources mixture`",
        run=CURATE_PLAN,
        holds=gives("settings"),
    ),
    row(
        "curate_production_dataset.py --output_dir",
        "curate_dataset.py --output_dir",
        "tokenize_datasets.py --output_dir",
        here="`--out FOLDER`",
        run=CURATED,
        holds=file("curated/curation.json"),
    ),
    row(
        "curate_dataset.py --workers",
        "filter_datasets.py --workers",
        "tokenize_datasets.py --workers",
        here="`--workers 32`; `--engine slurm` or `--engine ray` beyond one machine",
        run="data curate text --kind code --workers 2 --out by-two --json",
        holds=file("by-two/curation.json"),
    ),
    row(
        "filter_datasets.py --min_quality",
        "Quality Score",
        here="`--drop-share 0.3`",
        note="the worst 30% of each kind of text, by an exact quantile of the score; a fixed score would keep other "
        "shares of "
        "code than of books",
        run=CURATED,
        holds=lambda seen: seen.json["curated"]["num_documents"] == 28,
    ),
    row(
        "filter_datasets.py --remove_duplicates",
        "Deduplication",
        here="nothing: always; exact and near duplicates (80% of their 5-word pieces, by default) go",
        run=CURATE_PLAN,
        holds=lambda seen: seen.json["settings"]["duplicates"]["threshold"] == 0.8,
    ),
    row(
        "Length",
        here="nothing: 100 to 1M characters are the limits of every kind; settings of `--config`",
        run=CURATE_PLAN,
        holds=lambda seen: all(
            (rules["min_characters"], rules["max_characters"]) == (100, 1_000_000)
            for rules in seen.json["settings"]["rules"].values()
        ),
    ),
    row(
        "Language",
        here="nothing: English with a confidence of 90%; settings of `--config`",
        note="the confidence is calibrated; code is not judged",
        run=CURATE_PLAN,
        holds=lambda seen: seen.json["settings"]["language"]["min_confidence"] == 0.9,
    ),
    row(
        "Content",
        here="nothing: profanity and spam are judged by kind, personal data masked; settings of `--config`",
        run=CURATE_PLAN,
        holds=lambda seen: (
            set(seen.json["settings"]["personal"].values()) >= {"mask"}
            and all(seen.json["settings"][name] for name in ("profanity", "spam"))
        ),
    ),
)

TOKENS = (
    row(
        "tokenize_datasets.py",
        "tokenize_datasets.py --tokenizer",
        here="`mamba-slm data tokenize curated/ --tokenizer FOLDER --out tokens`",
        note="tokenizer.json, sentencepiece, tiktoken, or one of your own: `mamba-slm data train-tokenizer text/ --out "
        "tokenizer`. Llama's is gated: fetch it with your account and give its folder",
        run="data inspect shards --json",
        holds=file("shards/train/shards.json", "shards/tokenizer.json"),
    ),
    row(
        "tokenize_datasets.py --max_length",
        here="nothing: documents stay whole in shards; rows are cut when training reads them (`--context-tokens 2048`)",
        note="so that the same shards serve every length",
        run="train nano --data shards --context-tokens 64 --batch-tokens 128 --dry-run --json",
        holds=setting(context_tokens=64),
    ),
)

MIXTURE = (
    row(
        "production_dataset.py",
        "DatasetSource",
        here="`mamba-slm data sources`, `mamba-slm data sources mixture` and `mamba-slm data mix --published tokens/`",
        note="any mixture of yours: `mamba-slm data mix web=web-tokens:0.7 code=code-tokens:0.3 --out mixture.yaml`",
        run="data mix a=shards:0.7 b=shards:0.3 --context-tokens 64 --tokens 10k --out mixture.yaml --json",
        holds=file("mixture.yaml"),
    ),
    *(
        row(
            was,
            here=f"`mamba-slm data download {name} --out {name}`",
            note=note,
            run=f"data sources describe {name} --json",
            holds=lambda seen, name=name: seen.json["name"] == name,
        )
        for was, name, note in (
            ("C4", "c4", "30%"),
            ("The Pile", "pile", "25%; withdrawn as it was; this is the part without what is under copyright"),
            ("StarCoder", "starcoder", "15%; gated: its terms are accepted on the hub, and HF_TOKEN is sent"),
            ("Wikipedia", "wikipedia", "5%; a dump can be read, too"),
            ("ArXiv", "arxiv", "5%"),
            ("OpenWebText", "openwebtext", "5%"),
            ("Stack Exchange", "stackexchange", "5%; a dump can be read, too"),
        )
    ),
    row(
        "Books3",
        here="refused: it was withdrawn for infringing copyright; its 10% go to `gutenberg`",
        note="`mamba-slm data sources mixture --have books3` if you have books that you may train on",
        run="data download books3 --out books3",
        exits=5,
        holds=says("withdrawn"),
    ),
)

SECTIONS = (
    Section(
        title="Data",
        about="The original has two names for curation and three more scripts for its parts; here it is three commands "
        "behind each other, and each goes on where it was killed. Kinds of text, filters and measured quality: "
        "[the guide](guides/data.md).",
        rows=(*LOADING, *CURATION, *TOKENS, *MIXTURE),
        blocks=(
            ("dataset_loader.py", "mamba-slm data download wikitext-2 --out wikitext"),
            (
                "curate_production_dataset.py",
                "mamba-slm data sources mixture\n"
                "mamba-slm data download c4 --tokens 30B --out raw/c4\n"
                "mamba-slm data curate raw/c4 --kind web --workers 32 --out curated/c4\n"
                "mamba-slm data tokenize curated/c4 --tokenizer TOKENIZER --workers 32 --out tokens/c4\n"
                "mamba-slm data mix --published tokens/ --tokens 100B --out mixture.yaml",
            ),
        ),
    ),
)
