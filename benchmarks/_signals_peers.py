"""Quality filters of others, timed in their own Python: `PYTHON _signals_peers.py NAME TEXTS.jsonl` prints JSON.

Every filter sees every text, also those that an earlier one would remove. Nothing of ours is imported.
"""

import json
import sys
import time


def datatrove_ways():
    """The filters of FineWeb's pipeline, as in its examples/fineweb.py."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = {
        "Gopher repetition": GopherRepetitionFilter(),
        "Gopher quality": GopherQualityFilter(),
        "C4": C4QualityFilter(filter_no_terminal_punct=False),
        "FineWeb": FineWebQualityFilter(),
    }

    def way(one):
        return lambda text: one.filter(Document(text=text, id="0"))

    return {name: way(one) for name, one in filters.items()}


def dolma_ways():
    """Its Gopher and C4 taggers."""
    from dolma.core.data_types import Document
    from dolma.core.registry import TaggerRegistry

    def way(tagger):
        return lambda text: tagger.predict(Document(source="", id="0", text=text))

    return {name: way(TaggerRegistry.get(name)()) for name in ("gopher_v1", "c4_v2")}


def main():
    """Time each way over all texts, after one text that does not count; then all of them together."""
    peer, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    size = sum(len(text.encode()) for text in texts)
    rows = []
    for name, way in {"datatrove": datatrove_ways, "dolma": dolma_ways}[peer]().items():
        way(texts[0])
        start = time.process_time()
        for text in texts:
            way(text)
        rows.append({"name": f"{peer} {name}", "size": size, "seconds": time.process_time() - start})
    rows.append({"name": f"{peer}, all of them", "size": size, "seconds": sum(row["seconds"] for row in rows)})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
