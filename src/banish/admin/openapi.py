"""The OpenAPI document of the admin API, made from the same rows that route it and the same types that read and
write it.

Source: OpenAPI 3.1, whose schemas are JSON Schema 2020-12, as msgspec gives them.
Not here: the rows (`endpoints.py`); what they mean (the modules that fill them).
"""

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import msgspec
import msgspec.inspect

import banish
from banish.admin.endpoints import Endpoint, Parameter, Problem
from banish.edge.reading import attribute_docs

_TYPES = {str: "string", int: "integer", float: "number"}

_Schemas = dict[type, dict[str, Any]]


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The whole document."""
    rows = list(endpoints)
    types = [*dict.fromkeys([Problem, *(type_ for row in rows for type_ in _types(row))])]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for struct in _structs(types):
        _describe(components[struct.__name__], struct)
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, dict(zip(types, schemas, strict=True)))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "banish",
            "summary": "The admin API of one edge",
            "version": banish.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Asked for if the edge has tokens."}
            },
        },
        "security": [{}, {"token": []}],
    }


def _types(row: Endpoint) -> Iterator[type]:
    """What a row reads and writes as JSON."""
    if row.body is not None:
        yield row.body
    for given in row.gives.values():
        if not isinstance(given, str):
            yield from given if isinstance(given, tuple) else (given,)


def _structs(types: Iterable[type]) -> Iterator[type]:
    """Every struct that these are made of."""
    seen: set[type] = set()
    waiting = list(msgspec.inspect.multi_type_info(types))
    while waiting:
        info = waiting.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls not in seen:
                seen.add(info.cls)
                waiting += [field.type for field in info.fields]
                yield info.cls
            continue
        for part in ("item_type", "value_type", "item_types", "types"):
            inner = getattr(info, part, ())
            waiting += inner if isinstance(inner, tuple) else (inner,)


def _describe(schema: dict[str, Any], struct: type) -> None:
    """Write beside each property what stands under its field in the source."""
    docs: dict[str, str] = {}
    for cls in reversed(struct.__mro__[:-1]):
        if cls.__module__.startswith("banish."):
            docs |= attribute_docs(cls)
    for name, property_ in schema["properties"].items():
        if name in docs:
            property_["description"] = docs[name]


def _operation(row: Endpoint, schema_of: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": row.help, "operationId": _name(row)}
    rights = sorted(row.rights)
    operation["description"] = f"Rights: {' or '.join(rights)}." if rights else "Open to all, without a token."
    if not rights:
        operation["security"] = []
    if parameters := [*_in_path(row), *_parameters(row.query, "query"), *_parameters(row.headers, "header")]:
        operation["parameters"] = parameters
    if row.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema_of[row.body]}}}
    operation["responses"] = _responses(row, schema_of)
    return operation


def _responses(row: Endpoint, schema_of: _Schemas) -> dict[str, Any]:
    refused = {"application/json": {"schema": schema_of[Problem]}}
    unknown = (401,) if row.rights else ()
    responses = {str(status): _response(status, refused) for status in (*unknown, *row.refuses)}
    for status, given in row.gives.items():
        if isinstance(given, str):
            content: dict[str, Any] = {given: {"schema": {"type": "string"}}}
        else:
            schemas = [schema_of[type_] for type_ in (given if isinstance(given, tuple) else (given,))]
            content = {"application/json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}}
        responses[str(status)] = _response(status, content)
    return dict(sorted(responses.items()))


def _response(status: int, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, "content": content}


def _in_path(row: Endpoint) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in row.path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _parameters(parameters: Iterable[Parameter], place: str) -> list[dict[str, Any]]:
    return [_parameter(parameter, place) for parameter in parameters]


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _TYPES[parameter.type]}
    if parameter.repeats:
        schema = {"type": "array", "items": schema}
    shown: dict[str, Any] = {
        "name": parameter.name,
        "in": place,
        "description": parameter.help,
        "required": parameter.required,
        "schema": schema,
    }
    if parameter.example is not None:
        shown["example"] = parameter.example
    return shown


def _name(row: Endpoint) -> str:
    """`getPurgesById`: unique, since path and method are."""
    words = [f"by_{part[1:-1]}" if part.startswith("{") else part for part in row.path.split("/") if part]
    return row.method.lower() + "".join(word.title().replace("_", "") for word in words or ["index"])
