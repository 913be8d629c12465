"""Convert: protocol buffers to the JSON that verbs take, and what verbs answer to protocol buffers.

The names of the fields are the same by the rule of protocol buffers (``message_id``, ``messageId``). A
field of type bytes holds raw JSON.
"""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class NotJson(Exception):
    """A field that has to hold JSON does not."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field}: expected JSON in UTF-8")


def to_json(message: Message) -> bytes:
    """A request as JSON.

    :raises NotJson: a field of bytes does not hold it.
    """
    return _encode(_fields(message))


def _fields(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if _is_map(field):
            told[field.json_name] = dict(value)
        elif field.is_repeated:
            if value:
                told[field.json_name] = [_value(field, item) for item in value]
        elif not field.has_presence or message.HasField(field.name):
            told[field.json_name] = _value(field, value)
    return told


def _is_map(field: FieldDescriptor) -> bool:
    entry = field.message_type
    return entry is not None and bool(entry.GetOptions().map_entry)


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.type == field.TYPE_MESSAGE:
        return _fields(value)
    if field.type != field.TYPE_BYTES:
        return value
    try:
        # Looked at, so that it can't be more than one value, and change what stands around it.
        value.decode()
        _decode_raw(value)
    except (ValueError, RecursionError):
        raise NotJson(field.json_name) from None
    return msgspec.Raw(value)


def fill(message: Message, data: bytes) -> Message:
    """Fill in what a verb has answered as JSON."""
    told = _decode_fields(data)
    for field in message.DESCRIPTOR.fields:
        raw = told.get(field.json_name)
        if raw is None or bytes(raw) == b"null":
            continue
        value = bytes(raw)
        if field.is_repeated:
            _fill_many(getattr(message, field.name), field, value)
        elif field.type == field.TYPE_MESSAGE:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), value)
        else:
            setattr(message, field.name, value if field.type == field.TYPE_BYTES else _decode(value))
    return message


def _fill_many(target: Any, field: FieldDescriptor, value: bytes) -> None:
    if _is_map(field):
        target.update(_decode(value))
    elif field.type == field.TYPE_MESSAGE:
        for item in _decode_list(value):
            fill(target.add(), bytes(item))
    elif field.type == field.TYPE_BYTES:
        target.extend(bytes(item) for item in _decode_list(value))
    else:
        target.extend(_decode(value))
