"""What the page says, from its catalogues: `words/en.toml`, `words/zh.toml`."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any, get_args

import tomli

from dashboard.config import Language

LANGUAGES: tuple[Language, ...] = get_args(Language)


class Words:
    """One language.

    Args:
        language: its code.
        texts: dotted key → text, with the values' names in braces.
    """

    def __init__(self, language: Language, texts: Mapping[str, str]) -> None:
        self.language = language
        self.texts = texts

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values filled in.

        Raises:
            KeyError: the catalogue has no such text.
        """
        return self.texts[key].format(**values)

    def either(self, key: str, otherwise: str) -> str:
        """Return a text without values, or something else where the catalogue has none: a code that is not ours."""
        return self.texts.get(key, otherwise)

    def fits(self, key: str, values: Mapping[str, object] | None) -> bool:
        """Whether there is a text under a key, and everything to fill it in with."""
        return values is not None and key in self.texts and _names(self.texts[key]) <= values.keys()

    def filled(self, key: str, values: Mapping[str, object], shown: Callable[[str, object], str]) -> str:
        """Return a text with such of the values as it names, each as `shown(name, value)`."""
        return self(key, **{name: shown(name, values[name]) for name in _names(self.texts[key])})

    def count(self, key: str, count: int) -> str:
        """Return a text about so many, in the singular where there is one and the language has it."""
        singular = f"{key}_one"
        return self(singular if count == 1 and singular in self.texts else key, count=count)


@cache
def words(language: Language) -> Words:
    """Return the catalogue of a language."""
    text = files("dashboard").joinpath("words", f"{language}.toml").read_text(encoding="utf-8")
    return Words(language, dict(_flat(tomli.loads(text))))


@cache
def _names(text: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in Formatter().parse(text) if name)


def preferred(accepted: str) -> Language:
    """Return the language that a browser's `Accept-Language` asks for first, of those that there are; else English."""
    for part in accepted.split(","):
        code = part.split(";")[0].strip().lower()[:2]
        for language in LANGUAGES:
            if code == language:
                return language
    return "en"


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", str(value)))
    return found
