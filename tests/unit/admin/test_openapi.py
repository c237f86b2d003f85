import json
from typing import Any

import msgspec
from starlette.routing import Route

from banish.admin.app import ENDPOINTS, make_app
from banish.admin.openapi import document
from banish.admin.purge_forms import PurgeForm, TargetForm
from tests.unit.admin.asking import get
from tests.unit.admin.subject import FakeEdge

DOCUMENT: dict[str, Any] = json.loads(msgspec.json.encode(document(ENDPOINTS)))


def test_every_route_is_in_the_document_and_nothing_else() -> None:
    routed = {
        (route.path, method.lower())
        for route in make_app(FakeEdge()).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    documented = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert routed == documented


def test_it_is_served() -> None:
    assert get(FakeEdge(), "/openapi.json").json == DOCUMENT
    assert DOCUMENT["openapi"] == "3.1.0"


def test_every_reference_leads_somewhere() -> None:
    components = DOCUMENT["components"]["schemas"]
    references: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            references.extend([node["$ref"]] if "$ref" in node else [])
            for inner in node.values():
                walk(inner)
        elif isinstance(node, list):
            for inner in node:
                walk(inner)

    walk(DOCUMENT)
    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= components.keys()


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    assert "getPurgesById" in names


def test_parameters_of_a_path_are_declared() -> None:
    (declared,) = DOCUMENT["paths"]["/purges/{id}"]["delete"]["parameters"][:1]
    assert (declared["name"], declared["in"], declared["required"]) == ("id", "path", True)


def test_a_purge_is_described_field_by_field() -> None:
    schema = DOCUMENT["components"]["schemas"]["PurgeForm"]
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() == set(PurgeForm.__struct_fields__)
    assert all("description" in property_ for property_ in schema["properties"].values())
    assert set(TargetForm.__struct_fields__) <= schema["properties"].keys()


def test_what_is_open_to_all_says_so_and_the_rest_names_its_rights() -> None:
    assert DOCUMENT["paths"]["/healthz"]["get"]["security"] == []
    assert "401" not in DOCUMENT["paths"]["/healthz"]["get"]["responses"]
    assert DOCUMENT["paths"]["/purges/{id}"]["delete"]["description"] == "Rights: purge."
    assert "401" in DOCUMENT["paths"]["/purges"]["post"]["responses"]
