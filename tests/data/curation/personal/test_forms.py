"""Well-known examples of each kind, written down one by one, and what is often taken for them."""

import pytest

from mamba_slm.data.curation.personal.clean import PersonalData
from mamba_slm.data.curation.personal.config import PersonalConfig

FOUND = {
    "email": (
        *("john.doe@example.com", "user+tag@sub.example.co.uk", "JANE@EXAMPLE.ORG", "a@b.co", "o'neil@uni-ulm.de"),
        *("first_last@company.io", "jürgen@müller.de", "x@xn--bcher-kva.example"),
    ),
    "phone": (
        *("(555) 123-4567", "555-123-4567", "+1-555-123-4567", "555.123.4567", "1-800-555-0199", "+1 (555) 123-4567"),
        *("+44 7911 123456", "+44 (0) 20 7946 0018", "+91-98765-43210", "+91 98765 43210", "+86 138 0013 8000"),
        *(
            "+81-3-1234-5678",
            "020 7946 0018",
            "07911 123456",
            "0161 496 0123",
            "(212)555-1234 ext. 5",
            "212-555-1234 x123",
        ),
        *(
            "+353 1 234 5678",
            "+49 30 901820",
            "+33 1 42 68 53 00",
            "0044 20 7946 0018",
            "00 49 30 901820",
            "+14155552671",
        ),
    ),
    "card": (
        *("4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111", "378282246310005", "3782 822463 10005"),
        *("5555555555554444", "6011111111111117", "30569309025904", "38520000023237", "3530111333300000"),
        *("5105 1051 0510 5100", "6200000000000005", "2223003122003222", "4000056655665556"),
    ),
    "iban": (
        *("GB29 NWBK 6016 1331 9268 19", "DE89370400440532013000", "FR1420041010050500013M02606", "NL91ABNA0417164300"),
        *("CH93 0076 2011 6238 5295 7", "ES9121000418450200051332", "it60x0542811101000000123456", "NO9386011117947"),
        *(
            "MT84MALT011000012345MTLCAST001S",
            "SA0380000000608010167519",
            "BR1800360305000010009795493C1",
            "PL61109010140000071219812874",
        ),
    ),
    "ssn": ("123-45-6789", "078-05-1120", "899-12-3456"),
    "ip": (
        *(
            "172.217.14.206",
            "93.184.216.34",
            "185.60.216.35",
            "2001:4860:4860::8888",
            "2606:2800:220:1:248:1893:25c8:1946",
        ),
        *("2a00:1450:4009:80b::200e", "100.128.3.7"),
    ),
    "key": (
        *("AKIAIOSFODNN7EXAMPLE", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "sk_test_4eC39HqLyjWDarjtT1zdp7dc"),
        *("xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx", "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY"),
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----",
        "sk-1234567890abcdef1234567890abcdef",
        "https://hooks.slack.com/services/T00000000/B00000000/aB3dE5fG7hI9jK1lM3nO5pQ7",
    ),
}
BESIDE = {
    "SSN: 123456789": ("ssn", "123456789"),
    "social security number 123 45 6789": ("ssn", "123 45 6789"),
    "Call 123-456-7890 now": ("phone", "123-456-7890"),
    "Tel. 030/1234567": ("phone", "030/1234567"),
    "tel: 01 42 68 53 00": ("phone", "01 42 68 53 00"),
    "dial 555-0199": ("phone", "555-0199"),
    "my DNS server is 8.8.8.8": ("ip", "8.8.8.8"),
    "http://45.33.32.56:8080/x": ("ip", "45.33.32.56"),
    "debit card 4222222222222": ("card", "4222222222222"),
    "order 4111 1111 1111 1111": ("card", "4111 1111 1111 1111"),
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": (
        "secret",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    ),
    'config["password"] = "S3cr3t!pass"': ("secret", "S3cr3t!pass"),
    'api_key="123e4567-e89b-12d3-a456-426614174000"': ("secret", "123e4567-e89b-12d3-a456-426614174000"),
    "mongodb+srv://admin:p4ssW0rd9@cluster0.mongodb.net/db": ("secret", "p4ssW0rd9"),
    "mailto:ann@site.org?subject=x": ("email", "ann@site.org"),
    "?email=ann@site.org&x=1": ("email", "ann@site.org"),
    "https://site.org/u/ann@site.org/": ("email", "ann@site.org"),
    "<ann@site.org>,": ("email", "ann@site.org"),
    "Write to ann@site.org.Then wait": ("email", "ann@site.org"),
}
LEFT = (
    *("version 1.2.3.4", "section 12.3.4.5", "chapter 1.2.3.100", "release 10.15.7.3", "1.2.3.4.5", "256.100.1.1"),
    *("192.168.1.1", "127.0.0.1:8080", "169.254.1.100", "fe80::1ff:fe23:4567:890a", "12:34:56", "00:1B:44:11:3A:B7"),
    *("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "a::b::c", "network 54.231.0.0/16"),
    *("ISBN 978-3-16-148410-0", "ISBN 0-306-40615-2", "2024-01-15", "2024-01-15T10:20:30.123456", "15.01.2024 10:20"),
    *("1999-2003", "1999–2003", "0123456789", "1234567890", "ABCD1234EFGH5678", "1,234,567.89", "$1234567"),
    *(
        "40.7128, -74.0060",
        "2147483648",
        "3.14159265358979",
        "1e-10000000",
        "10000-20000",
        "page 123-124",
        "+1 for this idea",
    ),
    *("2*x + 14148293285*y", "+141482932855", "1 + 53.5981500331442", "+53.5981500331", "0019-12-30/0020-01-05"),
    '"encryptionKey": "arn:aws:kms:us-west-2:123456789012:alias/a1"',
    *(
        "order #4111111111111112",
        "order 4111111111111111",
        "0000 0000 0000 0000",
        "4111 1111 1111 1112",
        "1111222233334444",
    ),
    *("000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "123-45-67890", "12-345-6789"),
    *("GB29 NWBK 6016 1331 9268 18", "DE8937040044053201300", "XX89370400440532013000"),
    "SK84 4501 6484 7620 6201 2866",
    *("user@localhost", "@username", "git@github.com:a/b.git", "lodash@4.17.21", "logo@2x.png", "foo@bar", "a@b.c1"),
    *("@media (min-width: 1024px)", "x @ y.com", "user@host.local", "@app.route('/x')", "@user@mastodon.social"),
    *("123e4567-e89b-12d3-a456-426614174000", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "0x1234567890abcdef"),
    *(
        "The phone was sold in 2010 and 2011.",
        "iPhone 4111 2020",
        "mobile 2019-11-20",
        "Tel Aviv 2019-2020",
        "office 2016 2019",
    ),
    *("the call to 1000000 people", "phone: +", "call 911", "text 2.345678", "fax 100%", "between 1-2-3 and 4-5-6-7-8"),
    *(
        'password = "password"',
        "password: correct horse battery",
        'token = "YOUR_TOKEN_123456789"',
        "secret=$SECRET_2_AB",
    ),
    *("password = input1.text2", 'key = "value12345"', "token: Optional[str] = None", "forgot password? call us"),
    *(
        "http://user:password@site.org/",
        "http://user:{pass}@site.org",
        "https://user@site.org/x",
        "ftp://guest:guest@site.org",
    ),
    *("AKIAAAAAAAAAAAAAAAAA", "eyJ.eyJ.x", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"),
)


@pytest.fixture(scope="module")
def personal():
    return PersonalData(PersonalConfig())


@pytest.mark.parametrize(("kind", "datum"), [(kind, datum) for kind, several in FOUND.items() for datum in several])
@pytest.mark.parametrize("frame", ["{}", "There it is: {}.", "({}) and more", "a\n{}\nb", "| {} |"])
def test_it_is_found_without_any_word_beside_it(personal, kind, datum, frame):
    text = frame.replace("{}", datum)
    assert [(span.kind, text[span.start : span.end]) for span in personal.spans(text)] == [(kind, datum)]


@pytest.mark.parametrize("text", BESIDE)
def test_it_is_found_by_what_stands_beside_it(personal, text):
    assert [(span.kind, text[span.start : span.end]) for span in personal.spans(text)] == [BESIDE[text]]


@pytest.mark.parametrize("text", LEFT)
def test_it_is_left_alone(personal, text):
    assert [(span.kind, text[span.start : span.end]) for span in personal.spans(text)] == []
