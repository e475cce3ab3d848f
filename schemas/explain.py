"""Says in one line what is wrong with a configuration: where, what is allowed, and what stood there.

The settings' JSON Schema knows what is allowed at every place, so the texts follow the models by themselves.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from schemas.topics import NAME_PATTERN

Schema = Mapping[str, Any]

_LONGEST_VALUE = 60


def explain(
    model: type[BaseModel],
    document: Mapping[str, Any],
    error: ValidationError,
    variables: Mapping[str, str],
    source: str,
) -> str:
    """Return one line for the error that says most.

    Args:
        model: what the document should have been.
        document: what was read, lists as tuples.
        error: what pydantic found.
        variables: `table.key` → the environment variable that set it.
        source: the file's name.
    """
    errors = error.errors(include_url=False)
    # A misspelt key is often a missing one too; the misspelling says more.
    first = next((item for item in errors if item["type"] == "extra_forbidden"), errors[0])
    kind, location = first["type"], first["loc"]
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        location += (first["ctx"]["discriminator"].strip("'"),)
    place = Place(model.model_json_schema(), document)
    for part in location:
        place.enter(part)
    variable = variables.get(place.text)
    at = f"{source}: {place.text}" if variable is None else f"{variable} ({place.text})"
    match kind:
        case "extra_forbidden":
            return f"{at}: {_unknown(str(location[-1]), place.keys)}"
        case "missing" | "union_tag_not_found":
            return f"{at}: is missing; it must be {place.allowed}"
        case "value_error":
            return f"{at if place.text else source}: {first['ctx']['error']}"
        case _:
            return f"{at}: must be {place.allowed}, not {_shown(place.value)}"


class Place:
    """A place in a document, found by walking the document and its schema together from the top."""

    def __init__(self, root: Schema, document: Any) -> None:  # noqa: ANN401 - a TOML value is of any type
        self.value = document
        """What stands here; None where nothing does."""
        self.keys: list[str] = []
        """What may stand beside it."""
        self._root = root
        self._schema = root
        self._groups = [""]

    @property
    def text(self) -> str:
        """Where it is: `channel "1", program entry 2, until.voltage_v`."""
        return ", ".join(group.strip() for group in self._groups if group)

    @property
    def allowed(self) -> str:
        """What may stand here."""
        return describe(self._resolved(self._schema))

    @property
    def takes_text(self) -> bool:
        """Whether only text may stand here."""
        schema = self._resolved(self._schema)
        return schema.get("type") == "string"

    def enter(self, part: str | int) -> None:
        """Go down to a key or an entry; a part that but names the branch of a union leads nowhere."""
        schema = self._resolved(self._schema)
        if isinstance(part, int):
            fixed = schema.get("prefixItems", ())
            self._schema = fixed[part] if part < len(fixed) else schema.get("items", {})
            self.value = self.value[part] if part < len(self.value) else None
            name = self.value.get("id") if isinstance(self.value, Mapping) else None
            self._groups[-1] += f' "{name}"' if isinstance(name, str) else f" entry {part + 1}"
            self._groups.append("")
            return
        keys = schema.get("properties", {})
        table = self.value if isinstance(self.value, Mapping) else {}
        if part not in keys and part not in table:
            return
        self._groups[-1] += f".{part}" if self._groups[-1] else part
        self.keys = sorted(keys)
        self._schema, self.value = keys.get(part, {}), table.get(part)

    def _resolved(self, schema: Schema) -> Schema:
        """Follow references, leave `null` aside, and take the branch of a union that the document names."""
        if "$ref" in schema:
            return self._resolved(self._root["$defs"][schema["$ref"].rpartition("/")[2]])
        if "discriminator" in schema:
            tag, mapping = schema["discriminator"]["propertyName"], schema["discriminator"]["mapping"]
            given = self.value.get(tag) if isinstance(self.value, Mapping) else None
            if isinstance(given, str) and given in mapping:
                return self._resolved({"$ref": mapping[given]})
            return {"type": "object", "properties": {tag: {"type": "string", "enum": list(mapping)}}}
        branches = [branch for branch in schema.get("anyOf", ()) if branch.get("type") != "null"]
        return self._resolved(branches[0]) if len(branches) == 1 else schema


_KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


def describe(schema: Schema) -> str:
    """Say in words what a JSON Schema allows."""
    if "anyOf" in schema:
        return " or ".join(describe(branch) for branch in schema["anyOf"] if branch.get("type") != "null")
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "enum" in schema:
        return f"one of {', '.join(str(value) for value in schema['enum'])}"
    if schema.get("pattern") == NAME_PATTERN:
        return "a name of 1 to 64 letters, digits, '_' or '-'"
    kind = _KINDS.get(schema.get("type", ""), "something else")
    if schema.get("minLength"):
        kind += " that is not empty"
    if schema.get("minItems"):
        kind += " with at least one entry"
    return kind + _range(schema)


def _range(schema: Schema) -> str:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    parts = []
    if lowest is not None and highest is not None:
        return f" from {lowest:g} to {highest:g}"
    if lowest is not None:
        parts.append(f"of at least {lowest:g}")
    if above is not None:
        parts.append(f"above {above:g}")
    if highest is not None:
        parts.append(f"of at most {highest:g}" if not parts else f"up to {highest:g}")
    if below is not None:
        parts.append(f"below {below:g}")
    return " " + " and ".join(parts) if parts else ""


def _unknown(key: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(key, allowed, n=1)
    if close:
        return f"unknown key; did you mean {close[0]}?"
    return f"unknown key; allowed are {', '.join(allowed)}" if allowed else "unknown key"


def _shown(value: Any) -> str:  # noqa: ANN401 - a TOML value is of any type
    match value:
        case bool():
            return str(value).lower()
        case Mapping():
            return "a table"
        case tuple() | list():
            return "a list" if value else "an empty list"
        case str() if not value:
            return "an empty text"
        case _:
            text = repr(value)
            return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
