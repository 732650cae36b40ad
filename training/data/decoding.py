"""A user's bytes to text, by the byte order mark or by where the first zero bytes stand."""

import codecs
from pathlib import Path

from training.errors import InvalidData

# The mark of UTF-32 begins with that of UTF-16: the longer ones come first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Which of the first four bytes are not zero, in a file that starts with two ASCII characters, as a
# header and JSON do. Excel and PowerShell write such files without a mark, too.
_WITHOUT_MARK: dict[tuple[bool, ...], str] = {
    (True, False, True, False): "utf-16-le",
    (False, True, False, True): "utf-16-be",
    (True, False, False, False): "utf-32-le",
    (False, False, False, True): "utf-32-be",
}


def decode_file(path: Path, raw: bytes) -> str:
    """The text of a file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises InvalidData with the line and the byte that are not in the file's encoding.
    """
    encoding = _encoding(raw)
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.upper().removesuffix("-SIG").removesuffix("-LE").removesuffix("-BE")
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidData(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} at position {error.start} is not "
            f"{name}. Save the file as UTF-8."
        ) from error


def _encoding(raw: bytes) -> str:
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return encoding
    return _WITHOUT_MARK.get(tuple(byte != 0 for byte in raw[:4]), "utf-8")
