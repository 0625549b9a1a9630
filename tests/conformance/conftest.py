"""`--write-table` writes docs/reference/conformance.md from what this run measures."""


def pytest_addoption(parser):
    parser.addoption("--write-table", action="store_true", help="write docs/reference/conformance.md")
