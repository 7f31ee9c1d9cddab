"""Whatever the OpenAPI document allows is answered as it says: no crash, no undocumented status or form."""

from collections.abc import Iterator

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as bounded
from schemathesis.specs.openapi.checks import positive_data_acceptance

from model.classifier import Classifier
from serving import auth
from serving.api import create_app
from serving.settings import Settings
from serving.store import Store

OPERATIONS = [
    (method.upper(), path)
    for path, methods in create_app(Settings()).openapi()["paths"].items()
    for method in methods
]


@pytest.fixture
def headers(settings: Settings) -> dict[str, str]:
    store = Store.open(settings)
    with store.write() as connection:
        key = auth.create(connection, "admin", ["admin"])
    store.close()
    return {"X-API-Key": key}


@pytest.fixture
def api(settings: Settings, classifier: Classifier) -> Iterator[schemathesis.BaseSchema]:
    app = create_app(settings, classifier)
    with TestClient(app):  # starts the service
        yield schemathesis.openapi.from_asgi("/v1/openapi.json", app)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_a_route_keeps_to_the_document(
    api: schemathesis.BaseSchema, headers: dict[str, str], method: str, path: str
) -> None:
    @bounded(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=api[path][method].as_strategy())
    def holds(case: schemathesis.Case) -> None:
        # A schema cannot say which strings are phone numbers: what it allows may be refused.
        case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

    holds()
