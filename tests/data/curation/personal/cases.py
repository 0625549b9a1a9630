"""Personal data made up in every form that is promised, what only looks like it, and sentences around both."""

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


def not_email(generator: random.Random) -> str:
    version = f"{generator.randint(0, 20)}.{generator.randint(0, 30)}.{generator.randint(0, 9)}"
    return generator.choice(
        [
            f"icon{generator.randint(1, 99)}@2x.png",
            f"npm install lodash@{version}",
            f"@types/node@{version}",
            "git@github.com:someone/project.git",
            "@property",
            f"user{generator.randint(1, 99)}@localhost",
            "root@web-01:~#",
            f"follow @someone{generator.randint(1, 99)} there",
            "a @ b.com",
            f"docker.io/library/redis@sha256:{characters(generator, HEX, 64)}",
            f"meet @ {generator.randint(1, 12)}.30",
        ]
    )


def not_number(generator: random.Random) -> str:
    """Digits that are nobody's."""
    year = generator.randint(1700, 2030)
    uuid = "-".join(characters(generator, HEX, size) for size in (8, 4, 4, 4, 12))
    return generator.choice(
        [
            f"{year}-{generator.randint(10, 12)}-{generator.randint(10, 28)} 12:{generator.randint(10, 59)}:44",
            f"{year}–{year + 4}",
            f"{year}-{year + 4}, {year + 5}/{year + 9}",
            f"ISBN 978-0-{digits(generator, 3)}-{digits(generator, 5)}-{generator.randint(0, 9)}",
            f"{digits(generator, 1)}.{digits(generator, 15)}",
            f"{digits(generator, 3)},{digits(generator, 3)},{digits(generator, 3)}",
            f"{digits(generator, 2)} {digits(generator, 3)} 000 inhabitants",
            f"0x{characters(generator, HEX, 16)}",
            uuid,
            characters(generator, HEX, 40),
            f"doi:10.{digits(generator, 4)}/{digits(generator, 7)}",
            f"arXiv:{digits(generator, 4)}.{digits(generator, 5)}",
            f"order {digits(generator, 16)}",
            f"{digits(generator, 8)}",
            f"part no. {digits(generator, 3)}-{digits(generator, 2)}-{digits(generator, 4)}",
            f"at {digits(generator, 2)}.{digits(generator, 6)}, -{digits(generator, 2)}.{digits(generator, 6)}",
            f"{digits(generator, 5)}-{digits(generator, 4)}",
            f"a score of {digits(generator, 3)}-{digits(generator, 3)}",
            f"{digits(generator, 2)}.{digits(generator, 2)}.{year}",
            f"timestamp {digits(generator, 13)}",
            " ".join(str(generator.randint(10, 99999)) for _ in range(9)),
            f"[{', '.join(digits(generator, 10) for _ in range(4))}]",
            f"${digits(generator, 7)}.00",
            f"+{digits(generator, 2)}%, +{digits(generator, 7)}",
            "2147483647, 4294967295, 18446744073709551615 and 3.141592653589793",
        ]
    )


def not_card(generator: random.Random) -> str:
    return grouped_card(generator, card_number(generator, right=False))


def not_iban(generator: random.Random) -> str:
    return iban(generator, right=False)


def not_ssn(generator: random.Random) -> str:
    area = generator.choice(["000", "666", f"9{generator.randint(10, 99)}"])
    good = f"{generator.randint(100, 665)}"
    return generator.choice(
        [
            f"{area}-{generator.randint(10, 99)}-{digits(generator, 4)}",
            f"{good}-00-{digits(generator, 4)}",
            f"{good}-{generator.randint(10, 99)}-0000",
        ]
    )


def not_ip(generator: random.Random) -> str:
    def number() -> int:
        return generator.randint(0, 254)

    return generator.choice(
        [
            f"10.{number()}.{number()}.{number()}",
            f"192.168.{number()}.{number()}",
            f"172.16.{number()}.{number()}",
            f"127.0.0.{number()}",
            "255.255.255.0",
            f"203.0.113.{number()}",
            f"version 2.{number()}.{number()}.{number()}",
            f"section {generator.randint(1, 9)}.{generator.randint(1, 9)}.{generator.randint(1, 9)}.2",
            f"v1.{number()}.{number()}.4",
            f"1.3.6.1.4.1.{number()}.{number()}",
            f"300.{number()}.{number()}.{number()}",
            f"10:{generator.randint(10, 59)}:{generator.randint(10, 59)}",
            ":".join(characters(generator, HEX, 2) for _ in range(6)),
            "std::vector::size, dead::beef and fe80::1",
            "2001:db8::8a2e:370:7334",
            "::1",
        ]
    )


def not_key(generator: random.Random) -> str:
    return generator.choice(
        [
            "AKIAXXXXXXXXXXXXXXXX",
            "ghp_" + "x" * 36,
            "sk-folding-cube-spinner-example-class",
            f"sha256:{characters(generator, HEX, 64)}",
            f"data:image/png;base64,{characters(generator, ALPHANUMERIC + '+/', 400)}==",
            "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqh\n-----END PUBLIC KEY-----",
            f"hf_model_name_{generator.randint(1, 99)} = load()",
            f"integrity: sha512-{characters(generator, ALPHANUMERIC + '+/', 86)}==",
        ]
    )


def not_secret(generator: random.Random) -> str:
    return generator.choice(
        [
            'password = "YOUR_PASSWORD_HERE"',
            "api_key: <your-api-key>",
            'token = os.environ["GITHUB_TOKEN_2"]',
            "password = get_password_from_vault2(user)",
            "password: ${DB_PASSWORD_1}",
            "The password: it must have eight characters and 2 digits.",
            'secret_name = "my-secret-v2"',
            "token = tokens[index1]",
            'eos_token="<|endoftext|>"',
            "Authorization: Bearer $TOKEN_V2",
            "password=********",
            'type="password" name="password2"',
            f"next_token = self.backend.list_{generator.randint(1, 9)}_things(",
            "mysql://root:password@localhost/db",
        ]
    )


NOT_MADE: dict[str, Callable[[random.Random], str]] = {
    "email": not_email,
    "phone": not_number,
    "card": not_card,
    "iban": not_iban,
    "ssn": not_ssn,
    "ip": not_ip,
    "key": not_key,
    "secret": not_secret,
}
"""By the kind that they look like most; none may be found as any kind."""


def framed(generator: random.Random, datum: str) -> tuple[str, int]:
    """A text with the datum in it, and where it begins."""
    before, after = generator.choice(FRAMES).split("{}")
    return before + datum + after, len(before)
