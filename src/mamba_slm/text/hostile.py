"""Short texts on which tokenizers differ if they do: what two must agree on before one replaces the other."""

from __future__ import annotations

import random

SEED = 20_261_121
LETTERS = "ab Zé'sStTlLſ19२,.!-_/<|>\n\r\t\u00a0\u3000\u2028\u0085\u200d\u0301\ufeff▁你한नि😀\0"
PLAIN: tuple[str, ...] = (
    "",
    " ",
    "\n",
    "Hello, world!",
    "  two  spaces ",
    "\tx\r\n\r\n  y \n",
    "don't DON'T ’s 's'S'll'LL",
    "1 12 123 1234 12345678",
    "3.14e-10, 0x1F, ٣٤٥",
    "</s><s><|endoftext|><|im_start|>user<0x0A>[INST]",
    "naïve cafe\u0301 Å ﬁ ſ İ ǆ",
    "नमस्ते 👩‍👩‍👧 你好，世界。한국어 ไทย עברית العربية",
    "\u0000\u0001\x7f\ufeff\u200b\u2028\u2029\u0085\u00ad",
    "▁a▁▁b ▁",
    "x" * 300,
    " " * 300,
    "=" * 300,
    "ab" * 150,
    "9" * 100,
    "\n" * 100 + "a",
    "def f(x):\n        return x + 1  # what?\n\n\n",
    "https://example.com/a?b=c&d=%20#e",
)


def hostile_texts(count: int = 300) -> list[str]:
    """The fixed ones, and random ones that are the same on every machine."""
    chance = random.Random(SEED)
    texts = list(PLAIN)
    for number in range(count):
        length = chance.randint(1, 24)
        if number % 4:
            texts.append("".join(chance.choices(LETTERS, k=length)))
        else:  # anywhere in Unicode but the surrogates
            points = (chance.randrange(0x30000 - 0x800) for _ in range(length))
            texts.append("".join(chr(point + 0x800 * (point >= 0xD800)) for point in points))
    return texts
