"""Personal data made up in every form that is promised, and sentences around it."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

from mamba_slm.data.curation.personal.cards import has_luhn
from mamba_slm.data.curation.personal.ibans import FORMS, forms, has_check_digits

FRAMES = (
    "{}",
    "Thanks for the order, {} is what I have here.",
    "On Monday we talked about it ({}), and nothing came of it.",
    'She wrote: "{}".',
    "<td>{}</td>",
    "name;city;{};2019-04-11;12.50",
    "Größe und Maß – “{}” – 東京",
    "  * {}\n  * Return to the index of 1998\n",
)


def digits(generator: random.Random, count: int) -> str:
    """Digits, the first not 0."""
    return str(generator.randint(10 ** (count - 1), 10**count - 1))


def characters(generator: random.Random, alphabet: str, count: int) -> str:
    """Characters of an alphabet."""
    return "".join(generator.choice(alphabet) for _ in range(count))


ALPHANUMERIC = string.ascii_letters + string.digits
HEX = "0123456789abcdef"


def card_number(generator: random.Random, *, right: bool = True) -> str:
    """A number of a network that exists, with a right or a wrong check digit."""
    start, length = generator.choice(
        [
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2223", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("3528", 16),
            ("36", 14),
        ]
    )
    body = start + "".join(generator.choice(string.digits) for _ in range(length - len(start) - 1))
    check = next(digit for digit in string.digits if has_luhn(body + digit))
    return body + (check if right else str((int(check) + generator.randint(1, 9)) % 10))


def grouped_card(generator: random.Random, number: str) -> str:
    """As people write it."""
    separator = generator.choice(["", " ", "-"])
    cuts = [4, 8, 12] if len(number) == 16 else [4, 10]
    pieces = [number[start:end] for start, end in zip([0, *cuts], [*cuts, len(number)], strict=True)]
    return separator.join(pieces)


def card(generator: random.Random) -> str:
    return grouped_card(generator, card_number(generator))


def iban(generator: random.Random, *, right: bool = True) -> str:
    """An account number of any country, in one piece or in groups of four."""
    form = generator.choice(FORMS.split())
    country, parts, count = form[:2], form[2:], ""
    bban = ""
    for character in parts:
        if character.isdigit():
            count += character
            continue
        alphabet = {"n": string.digits, "a": string.ascii_uppercase, "c": string.digits + string.ascii_uppercase}
        bban += characters(generator, alphabet[character], int(count))
        count = ""
    check = next(f"{value:02d}" for value in range(2, 99) if has_check_digits(f"{country}{value:02d}{bban}"))
    if not right:
        check = f"{(int(check) + generator.randint(1, 96) - 2) % 97 + 2:02d}"
    whole = country + check + bban
    assert len(whole) == forms()[country][0]
    if generator.random() < 0.5:
        return whole
    return " ".join(whole[start : start + 4] for start in range(0, len(whole), 4))


def ssn(generator: random.Random) -> str:
    area = generator.choice([number for number in range(1, 900) if number != 666])
    return f"{area:03d}-{generator.randint(1, 99):02d}-{generator.randint(1, 9999):04d}"


def public_ip(generator: random.Random) -> str:
    if generator.random() < 0.3:
        groups = [f"2{generator.choice('46')}{generator.choice('0ab')}{generator.choice('1379')}"]
        groups += [f"{generator.randint(1, 65535):x}" for _ in range(7)]
        if generator.random() < 0.5:
            return ":".join(groups[:3]) + "::" + groups[7]
        return ":".join(groups)
    first = generator.choice([81, 52, 99, 145, 203, 66, 23])
    return f"{first}.{generator.randint(0, 112)}.{generator.randint(100, 255)}.{generator.randint(1, 254)}"


def email(generator: random.Random) -> str:
    first, last = generator.choice(["ann", "j.doe", "Maria_K", "o'brien", "li+news", "x-ray", "müller", "b"]), generator
    domain = generator.choice(["site", "mail.uni-ulm", "Company", "a1", "xn--bcher-kva", "sub.sub2"])
    top = generator.choice(["org", "com", "co.uk", "de", "info", "technology", "ru", "com.br"])
    return f"{first}{last.randint(1, 99)}@{domain}.{top}"


def phone(generator: random.Random) -> str:
    area, exchange, line = (generator.randint(low, high) for low, high in ((201, 989), (211, 989), (1000, 9999)))
    return generator.choice(
        [
            f"({area}) {exchange}-{line}",
            f"{area}-{exchange}-{line}",
            f"{area}.{exchange}.{line}",
            f"+1 {area} {exchange} {line}",
            f"1-{area}-{exchange}-{line}",
            f"{area}-{exchange}-{line} ext. 12",
            f"+44 20 7{digits(generator, 3)} {digits(generator, 4)}",
            f"+49 (0)30 {digits(generator, 3)} {digits(generator, 4)}",
            f"+33 6 {' '.join(digits(generator, 2) for _ in range(4))}",
            f"+4915{digits(generator, 9)}",
            f"0041 44 {digits(generator, 3)} {digits(generator, 2)} {digits(generator, 2)}",
            f"020 7{digits(generator, 3)} {digits(generator, 4)}",
            f"(030) {digits(generator, 4)}-{digits(generator, 3)}",
            f"07{digits(generator, 3)} {digits(generator, 6)}",
        ]
    )


def named_phone(generator: random.Random) -> str:
    """A form that only a word beside it makes a phone number."""
    return generator.choice(
        [
            f"{digits(generator, 3)} {digits(generator, 4)}",
            f"{digits(generator, 2)}-{digits(generator, 2)}-{digits(generator, 2)}-{digits(generator, 2)}",
            f"{digits(generator, 10)}",
            f"0{digits(generator, 1)} {' '.join(digits(generator, 2) for _ in range(4))}",
            f"{digits(generator, 2)} {digits(generator, 3)} {digits(generator, 3)}",
        ]
    )


def key(generator: random.Random) -> str:
    def some(count: int, alphabet: str = ALPHANUMERIC) -> str:
        return characters(generator, alphabet, count)

    body = "\n".join(some(64, ALPHANUMERIC + "+/") for _ in range(12))
    return generator.choice(
        [
            f"AKIA{some(16, string.ascii_uppercase + '234567')}",
            f"ghp_{some(36)}",
            f"github_pat_{some(22)}_{some(59)}",
            f"glpat-{some(20)}",
            f"xoxb-{some(12, string.digits)}-{some(13, string.digits)}-{some(24)}",
            f"sk_live_{some(24)}",
            f"sk-proj-{some(24)}aA1{some(24)}",
            f"AIza{some(35)}",
            f"hf_{some(34)}",
            f"npm_{some(36)}",
            f"SG.{some(22)}.{some(43)}",
            f"eyJ{some(30)}.eyJ{some(80)}.{some(43)}",
            f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----",
        ]
    )


def secret(generator: random.Random) -> tuple[str, str]:
    """What is written, and the part of it that is the secret."""
    password = (
        characters(generator, ALPHANUMERIC + "!#%+?", 8) + f"a{generator.randint(1, 9)}Z{generator.randint(1, 9)}!"
    )
    token = characters(generator, ALPHANUMERIC, 30) + "4x7"
    hexadecimal = characters(generator, HEX, 37) + "7a1"
    return generator.choice(
        [
            (f'password = "{password}"', password),
            (f"DB_PASSWORD={password}", password),
            (f'"api_key": "{token}"', token),
            (f"client_secret: '{hexadecimal}'", hexadecimal),
            (f"Authorization: Bearer {token}", token),
            (f"export AUTH_TOKEN={hexadecimal}", hexadecimal),
            (f"postgres://app:{token}@db.site.org:5432/shop", token),
        ]
    )


MADE: dict[str, Callable[[random.Random], str]] = {
    "email": email,
    "phone": phone,
    "card": card,
    "iban": iban,
    "ssn": ssn,
    "ip": public_ip,
    "key": key,
}


def framed(generator: random.Random, datum: str) -> tuple[str, int]:
    """A text with the datum in it, and where it begins."""
    before, after = generator.choice(FRAMES).split("{}")
    return before + datum + after, len(before)
