"""Makes hostile JSON from good JSON: what flipping bytes finds once in a million tries, or never."""

import json
import random
from collections.abc import Iterator

WORST = (
    "NaN", "-Infinity", "Infinity", "1e999", "-1e999", "1e-999", "-0", "-0.0", "00", "01", "1.", ".5", "+1", "0x10",
    "1_0", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 400, "1" + "0" * 308, "2e308",
    "5e-324", "null", "true", "false", '""', '"NaN"', '"1"', "[]", "{}", "[[]]", '{"":{}}', "[" * 150 + "]" * 150,
    "[" * 5000, '{"a":' * 190 + "1" + "}" * 190, '"\\ud800"', '"\\u0000"', '"\\uD83D\\uDE00"', '"#+/$"',
    '"' + "x" * 70 + '"', '"' + "\\u0041" * 64 + '"', "'a'", "/**/1", "1e5", "1.0", "1E+2", "\u00a01",
    "[1,]", '{"a":1,}', '{"a":1,"a":2}',
)  # fmt: skip
"""Values that parsers of JSON disagree about, and those at the edges of what numbers can hold."""

MANY = 600
"""Parts of a list that is not made longer still."""


def mutated(payload: bytes, longest: int, choice: random.Random) -> bytes | None:
    """Return the payload with one to three of its parts made hostile, or None where it is no JSON."""
    try:
        pairs = json.loads(payload, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    for _ in range(choice.randint(1, 3)):
        pairs = _changed(pairs, choice)
    written = bytearray()
    try:
        for text in _texts(pairs):
            written += text.encode("utf-8", "surrogatepass")
            if len(written) >= longest:  # a list of lists made longer twice would fill the memory before it is cut
                break
    except RecursionError:
        return None
    return bytes(written[:longest])


class _Pairs(list[tuple[str, object]]):
    """An object whose keys may stand twice."""


class _Raw(str):
    """Text that stands in the JSON as it is."""

    __slots__ = ()


def _changed(value: object, choice: random.Random) -> object:
    if isinstance(value, _Pairs) and value:
        at = choice.randrange(len(value))
        key, part = value[at]
        match choice.randrange(8):
            case 0:
                del value[at]
            case 1:
                value.insert(choice.randrange(len(value) + 1), (key, part))
            case 2:
                value.insert(choice.randrange(len(value) + 1), (key, _Raw(choice.choice(WORST))))
            case 3:
                value[at] = (choice.choice((key.upper(), key + "_", "", "\u0000", key * 9)), part)
            case _:
                value[at] = (key, _changed(part, choice))
        return value
    if isinstance(value, list) and value:
        at = choice.randrange(len(value))
        match choice.randrange(6):
            case 0:
                del value[at]
            case 1 if len(value) < MANY:
                value.extend([value[at]] * choice.choice((1, 63, 64, 65, 500)))
            case _:
                value[at] = _changed(value[at], choice)
        return value
    return _Raw(choice.choice(WORST))


def _texts(value: object) -> Iterator[str]:
    match value:
        case _Raw():
            yield value
        case _Pairs():
            yield "{"
            for number, (key, part) in enumerate(value):
                yield f"{',' if number else ''}{json.dumps(key)}:"
                yield from _texts(part)
            yield "}"
        case list():
            yield "["
            for number, part in enumerate(value):
                yield "," if number else ""
                yield from _texts(part)
            yield "]"
        case _:
            yield json.dumps(value)
