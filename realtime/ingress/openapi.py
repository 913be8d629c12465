"""OpenAPI: the document that says what the HTTP API takes and answers, made from the tables themselves."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from .. import __version__
from ..errors import NotFound, RealtimeError, Unauthorized
from ..names import FORBIDDEN_IN_USERS, NAME_LENGTH
from ..routing import MAX_CHANNEL, SHARED, Target
from .paths import INTERNAL, ROUTES, Route
from .shapes import MAX_MESSAGE_ID, MAX_NAMES
from .verbs import COMMON, VERBS, Verb

_REF: Final = "#/components/schemas/{name}"
_PART: Final = "[A-Za-z0-9_-]+"
_PARTS: Final = f"{_PART}(:{_PART})*"
_USER: Final = {"$ref": "#/components/schemas/UserId"}
_ROOM: Final = {"type": "string", "pattern": f"^{_PARTS}$", "minLength": 1, "maxLength": NAME_LENGTH}
#: The room of an event begins with ``event:``.
_EVENT: Final = {**_ROOM, "maxLength": NAME_LENGTH - len("event:")}
_WHOLE: Final = {"type": "integer"}


def document(rules: Mapping[str, Target]) -> dict[str, Any]:
    """The document.

    :param rules: who gets what each service publishes.
    """
    types = [verb.request for verb in VERBS.values()] + [verb.answer for verb in VERBS.values()]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    schemas = {name: _plain(schema) for name, schema in schemas.items()}
    schemas["Batch"]["properties"]["publications"]["items"] = _judged_alone(schemas["Publish"])
    schemas["Publish"] = _publish(schemas["Publish"], rules)
    schemas["Broadcast"] = _broadcast(schemas["Broadcast"], rules)
    schemas["UserId"] = _text(_user_pattern(), NAME_LENGTH)
    schemas["MessageId"] = _text(_printable(frozenset()), MAX_MESSAGE_ID)
    schemas["Error"] = _error(())
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "realtime",
            "version": __version__,
            "description": "What other services can ask of the realtime service. Not part of it, and to be"
            f" changed without notice, is what the console asks: {', '.join(INTERNAL)}.",
        },
        "paths": paths,
        "security": [{"key": []}],
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _plain(schema: Any) -> Any:
    """As msgspec makes it, without titles and defaults that are no JSON Schema of ours."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    options = schema.get("anyOf")
    if options is not None and any(option.get("type") == "number" for option in options):
        # Whole numbers, which JSON may write as 5.0.
        options = [option for option in options if option.get("type") != "number"]
        schema = {**schema, "anyOf": options} if len(options) > 1 else {**schema, **options[0]}
        if len(options) == 1:
            schema.pop("anyOf")
    # The texts of the classes are for readers of the code.
    return {
        name: _plain(value)
        for name, value in schema.items()
        if not (name in ("title", "description") and isinstance(value, str))
    }


def _operation(route: Route, schemas: Mapping[str, Any]) -> dict[str, Any]:
    verb = VERBS[route.verb]
    request = schemas[verb.request.__name__]
    fields = request.get("properties", {})
    operation: dict[str, Any] = {
        "operationId": verb.name,
        "summary": verb.summary,
        "description": f"For keys with the scope `{verb.scope}`.",
        "responses": _responses(verb, route),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": fields[name]} for name in route.fields
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": _given(fields[name])}
        for name in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        schema: dict[str, Any] = {"$ref": _REF.format(name=verb.request.__name__)}
        required = True
        if route.fields:
            needed = [name for name in request.get("required", ()) if name not in route.fields]
            schema = {
                **request,
                "properties": {name: fields[name] for name in fields if name not in route.fields},
                "required": needed,
            }
            required = bool(needed)
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field of the query, which is there or is not, and never null."""
    options = schema.get("anyOf")
    if options is None:
        return schema
    return next(option for option in options if option.get("type") != "null")


def _responses(verb: Verb, route: Route) -> dict[str, Any]:
    answer = {"$ref": _REF.format(name=verb.answer.__name__)}
    responses: dict[str, Any] = {
        "200": {"description": "Done.", "content": {"application/json": {"schema": answer}}}
    }
    errors: dict[int, list[type[RealtimeError]]] = {}
    kinds: Iterable[type[RealtimeError]] = (*COMMON, Unauthorized, NotFound, *verb.errors, verb.invalid)
    for error in dict.fromkeys(kinds):
        errors.setdefault(error.status, []).append(error)
    for status, found in sorted(errors.items()):
        described = " ".join(f"`{kind.code}`: {kind.default}." for kind in found)
        content = {"application/json": {"schema": _error(kind.code for kind in found)}}
        responses[str(status)] = {"description": described, "content": content}
    return responses


def _error(codes: Iterable[str]) -> dict[str, Any]:
    code: dict[str, Any] = {"type": "string"}
    if found := sorted(set(codes)):
        code["enum"] = found
    told = {
        "type": "object",
        "properties": {"code": code, "message": {"type": "string"}},
        "required": ["code", "message"],
    }
    return {"type": "object", "properties": {"error": told}, "required": ["error"]}


# -- what the rules of channels say


def _publish(schema: dict[str, Any], rules: Mapping[str, Target]) -> dict[str, Any]:
    """One alternative for each kind of channel, with what the data has to hold."""
    kinds = [
        _to(schema, f"^{_one_of(services)}:{_PARTS}$", NAME_LENGTH, _data(target))
        for target, services in _by_target(rules).items()
    ]
    shared = f"^user:{_one_of(SHARED)}$"
    kinds.append(_to(schema, shared, NAME_LENGTH, _data(Target.OWNER)))
    for kind, field in (("event", "eventId"), ("room", "roomId")):
        named = {"type": "object", "not": {"required": [field]}}
        pattern = f"^{kind}:{_PART}:{_PARTS}$"
        kinds.append(_to(schema, pattern, NAME_LENGTH, named))
    other = {"type": "object"}
    kinds.append(_to(schema, f"^user:{_user_pattern()}+:{_PARTS}$", NAME_LENGTH, other))
    return {"oneOf": kinds}


def _judged_alone(schema: dict[str, Any]) -> dict[str, Any]:
    """A publication of a batch: what is wrong only with its values is said in its own result."""
    names = {"type": "array", "items": {"type": "string"}, "maxItems": MAX_NAMES}
    exclude = {
        "type": "object",
        "properties": {"users": names, "connections": _connections(names)},
        "required": [],
        "additionalProperties": False,
    }
    properties = {
        **schema["properties"],
        "data": {},
        "messageId": {"type": ["string", "null"]},
        "exclude": {"anyOf": [exclude, {"type": "null"}]},
    }
    return {**schema, "properties": properties}


def _connections(names: dict[str, Any]) -> dict[str, Any]:
    return {**names, "items": {"type": "string", "minLength": 1, "maxLength": 128}}


def _by_target(rules: Mapping[str, Target]) -> dict[Target, list[str]]:
    found: dict[Target, list[str]] = {}
    for service, target in sorted(rules.items()):
        found.setdefault(target, []).append(service)
    return found


def _one_of(names: Iterable[str]) -> str:
    return f"({'|'.join(sorted(map(re.escape, names)))})"


def _to(schema: dict[str, Any], pattern: str, length: int, data: dict[str, Any]) -> dict[str, Any]:
    channel = {"type": "string", "pattern": pattern, "maxLength": min(length, MAX_CHANNEL)}
    return {**schema, "properties": {**schema["properties"], "channel": channel, "data": data}}


def _data(target: Target) -> dict[str, Any]:
    """What the data has to hold for such an audience."""
    user = {"anyOf": [_USER, _WHOLE]}
    room = {"anyOf": [_ROOM, _WHOLE]}
    event = {"anyOf": [_EVENT, _WHOLE]}
    nobody = {"type": "null"}
    if target is Target.EVERYONE:
        return {"type": "object"}
    if target is Target.OWNER:
        return {"type": "object", "properties": {"userId": user}, "required": ["userId"]}
    if target is Target.EVENT_OR_EVERYONE:
        return {"type": "object", "properties": {"eventId": {"anyOf": [_EVENT, _WHOLE, nobody]}}}
    # The first that is there decides, and the others are not looked at.
    named = {"userId": user, "eventId": event, "roomId": room}
    kinds = [
        {"properties": {**dict.fromkeys(list(named)[:place], nobody), name: schema}, "required": [name]}
        for place, (name, schema) in enumerate(named.items())
    ]
    return {"type": "object", "anyOf": kinds}


def _broadcast(schema: dict[str, Any], rules: Mapping[str, Target]) -> dict[str, Any]:
    """What belongs to one user can't be sent to everyone; an audience is somebody."""
    targets = _by_target(rules)
    owned = targets.get(Target.OWNER, [])
    others = [*(name for name in rules if name not in owned), "user", "event", "room"]
    named = [{"properties": {name: {"minItems": 1}}, "required": [name]} for name in ("users", "rooms")]
    everyone = {"properties": {"everyone": {"const": True}}, "required": ["everyone"]}
    whom = {"$ref": _REF.format(name="Whom")}

    def kind(names: Iterable[str], audience: dict[str, Any]) -> dict[str, Any]:
        event = {"type": "string", "pattern": f"^{_one_of(names)}:{_PARTS}$", "maxLength": NAME_LENGTH}
        return {**schema, "properties": {**schema["properties"], "event": event, "audience": audience}}

    kinds = [kind(others, {"allOf": [whom], "anyOf": [everyone, *named]})]
    if owned:
        private = {"properties": {"everyone": {"const": False}}}
        kinds.append(kind(owned, {"allOf": [whom, private], "anyOf": named}))
    return {"oneOf": kinds}


def _user_pattern() -> str:
    return _printable(FORBIDDEN_IN_USERS)


@cache
def _printable(but: frozenset[str]) -> str:
    """All characters that can be printed, but some, as a class of a regular expression."""
    spans: list[list[int]] = []
    for code in range(0x20, sys.maxunicode + 1):
        char = chr(code)
        if char.isprintable() and char not in but:
            if spans and spans[-1][1] == code - 1:
                spans[-1][1] = code
            else:
                spans.append([code, code])
    return f"[{''.join(_span(first, last) for first, last in spans)}]"


def _span(first: int, last: int) -> str:
    ends = [re.escape(chr(code)) if code < 0x80 else chr(code) for code in (first, last)]
    return ends[0] if first == last else "-".join(ends)


def _text(characters: str, length: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": length, "pattern": f"^{characters}+$"}
