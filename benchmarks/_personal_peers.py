"""Maskers of others, timed in their own Python: `PYTHON _personal_peers.py NAME TEXTS.jsonl` prints JSON."""

import json
import sys
import time


def datatrove_ways():
    """Its formatter of e-mail addresses and public addresses of machines: two kinds."""
    from datatrove.pipeline.formatters import PIIFormatter

    return {"PIIFormatter, 2 kinds": PIIFormatter().format}


def main():
    """Time each way over all texts, after one text that does not count."""
    peer, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    size = sum(len(text.encode()) for text in texts)
    rows = []
    for name, way in {"datatrove": datatrove_ways}[peer]().items():
        way(texts[0])
        start = time.process_time()
        for text in texts:
            way(text)
        rows.append({"name": f"{peer} {name}", "size": size, "seconds": time.process_time() - start})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
