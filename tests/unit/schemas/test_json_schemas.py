"""The JSON Schemas in the tree: made from the models as they are, and true of the contract's own examples."""

import json

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from schemas.examples import EXAMPLES
from schemas.messages import PAYLOADS, Message
from zeroloop.schema import FOLDER, render


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_schema_in_the_tree_is_the_one_of_the_model(name: str) -> None:
    stored = (FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")
    assert stored == render(name, PAYLOADS[name]), "run `make schema` and commit what it changes"


def test_there_is_no_schema_of_a_payload_that_is_no_more() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.schema.json" for name in PAYLOADS}


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_schema_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(validator(name).schema)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in EXAMPLES.items() for text in texts])
def test_the_contracts_example_is_valid(name: str, text: str) -> None:
    validator(name).validate(json.loads(text))


@pytest.mark.parametrize("name", PAYLOADS)
def test_an_example_without_one_of_its_required_keys_is_not(name: str) -> None:
    schema = validator(name)
    for key in schema.schema["required"]:
        example = json.loads(EXAMPLES[name][0])
        del example[key]
        assert not schema.is_valid(example), key


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_key_that_the_contract_does_not_have_yet_is_allowed(name: str) -> None:
    assert validator(name).is_valid(json.loads(EXAMPLES[name][0]) | {"of_the_future": 1})


def nameless(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema()
    parts = {model.__name__: schema, **schema.get("$defs", {})}
    return {
        f"{name}.{key}"
        for name, part in parts.items()
        for key, said in part.get("properties", {}).items()
        if not said.get("description", "").strip()
    }


@pytest.mark.parametrize("name", PAYLOADS)
def test_every_key_has_a_meaning(name: str) -> None:
    assert nameless(PAYLOADS[name]) == set()


def test_a_key_without_one_would_be_found() -> None:
    class Part(Message):
        watts: float

    class Whole(Message):
        part: Part
        """A part."""

    assert nameless(Whole) == {"Part.watts"}
