"""Writes the JSON Schemas of all payloads, and the AsyncAPI document, made from the models."""

import json
from pathlib import Path
from typing import Any

import schemas
from schemas.messages import PAYLOADS, Message
from zeroloop import asyncapi

FOLDER = Path(schemas.__file__).parent / "json"
"""Where they stand in the tree and in the package."""


def document(name: str, model: type[Message]) -> dict[str, Any]:
    """Return the JSON Schema of a payload."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"zeroloop/v1/{name}.schema.json"}
    return head | model.model_json_schema()


def render(name: str, model: type[Message]) -> str:
    """Return the text of a payload's schema file."""
    return json.dumps(document(name, model), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write one file a payload, and return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, model in PAYLOADS.items():
        path = folder / f"{name}.schema.json"
        path.write_text(render(name, model), encoding="utf-8")
        written.append(path)
    return written


def write_asyncapi(file: Path | None) -> Path:
    """Write the AsyncAPI document, or the page that shows it where the file is to be HTML; return where it is.

    Args:
        file: where to; None: where it stands in the tree.
    """
    path = asyncapi.FILE if file is None else file
    path.parent.mkdir(parents=True, exist_ok=True)
    text = asyncapi.page(asyncapi.document()) if path.suffix == ".html" else asyncapi.render()
    path.write_text(text, encoding="utf-8")
    return path
