"""How many fields and elements a message holds, found from its bytes before it is unpacked.

An empty element is two bytes on the wire, and fifty or more once it is an object.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

_VARINT, _FIXED64, _BYTES, _START_GROUP, _END_GROUP, _FIXED32 = range(6)
_MOST_VARINT_BYTES = 10
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def has_more_elements(content: bytes, message: type[Message], most: int) -> bool:
    """Whether a message has more than `most` fields and elements, its parts' included.

    It stops at the first one too many. Raises DecodeError.
    """
    # Descriptors are the library's of Python or of C, whichever it runs with.
    waiting: list[tuple[int, int, Any]] = [(0, len(content), message.DESCRIPTOR)]
    found = 0
    while waiting:
        place, end, kind = waiting.pop()
        depth = 0  # of groups: nothing here has any, and what they hold is skipped
        while place < end:
            found += 1
            if found > most:
                return True
            tag, place = _varint(content, place, end)
            wire_type = tag & 7
            if wire_type == _BYTES:
                length, place = _varint(content, place, end)
                field = kind.fields_by_number.get(tag >> 3) if depth == 0 else None
                if field is not None and field.message_type is not None:
                    waiting.append((place, place + length, field.message_type))
                elif field is not None and _is_packed(field):
                    found += length  # no fewer than its elements
                place += length
            elif wire_type == _VARINT:
                _, place = _varint(content, place, end)
            elif wire_type == _FIXED64:
                place += 8
            elif wire_type == _FIXED32:
                place += 4
            elif wire_type == _START_GROUP:
                depth += 1
            elif wire_type == _END_GROUP and depth > 0:
                depth -= 1
            else:
                raise DecodeError("not a field")
            if place > end:
                raise DecodeError("a field ends after its message")
    return found > most


def _is_packed(field: FieldDescriptor) -> bool:
    """Whether bytes of this field are numbers in a row."""
    return field.is_repeated and field.type not in _TEXTS


def _varint(content: bytes, place: int, end: int) -> tuple[int, int]:
    """A number and where it ends. Raises DecodeError."""
    byte = content[place] if place < end else 0x80
    if byte < 0x80:
        return byte, place + 1
    value = shift = 0
    for position in range(place, min(end, place + _MOST_VARINT_BYTES)):
        byte = content[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise DecodeError("a number does not end")
