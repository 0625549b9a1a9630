"""The OpenAPI document is true: what it allows is answered as it says, and what it forbids is refused."""

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from serving.servers import Served

load_all_checks()
MEANINGLESS = {"positive_data_acceptance"}
"""A document cannot say that a model of this name is not there, or that a prompt is too long."""
ADDRESSES = [
    "GET /health",
    "GET /ready",
    "GET /version",
    "GET /info",
    "GET /v1/models",
    "GET /v1/models/{name}",
    "POST /v1/completions",
    "POST /v1/chat/completions",
    "POST /v1/responses",
    "POST /v1/embeddings",
    "POST /tokenize",
    "POST /detokenize",
    "POST /generate",
    "POST /generate_stream",
    "POST /",
]


@pytest.fixture(scope="module")
def served():
    served = Served(context_tokens=48)
    yield served
    served.close()


def operations_of(served):
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    return {result.ok().label: result.ok() for result in schema.get_all_operations()}


def smaller(body):
    """The same body, asking for less."""
    if isinstance(body, dict):
        for name in ("n", "best_of"):
            if isinstance(body.get(name), int) and body[name] > 3:
                body[name] = 3
        smaller(body.get("parameters"))


@pytest.mark.slow
def test_the_document_has_every_address(served):
    assert set(ADDRESSES) <= set(operations_of(served))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "mode"),
    [(address, GenerationMode.POSITIVE) for address in ADDRESSES]
    + [(address, GenerationMode.NEGATIVE) for address in ADDRESSES if address.startswith("POST")],
    ids=str,
)  # nothing can be wrong with a request without a body
def test_every_address_does_what_the_document_says(served, address, mode):
    operation = operations_of(served)[address]
    checks = [check for check in CHECKS.get_all() if check.__name__ not in MEANINGLESS]

    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=20,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        database=None,
    )
    def ask(case):
        smaller(case.body)
        case.call_and_validate(checks=checks)

    ask()
