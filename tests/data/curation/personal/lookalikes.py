"""What only looks like personal data, made up: versions, dates, wrong check digits, private addresses, placeholders."""

from __future__ import annotations

import random
from collections.abc import Callable

from data.curation.personal.cases import ALPHANUMERIC, HEX, card_number, characters, digits, grouped_card, iban


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
