"""Configuration: TOML and environment in, one frozen model or one clear error out. No I/O."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

import tomli
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.explain import Place, explain

ENVIRONMENT_PREFIX = "ZEROLOOP_"


class ConfigurationError(ValueError):
    """A configuration that cannot be used: say so on one line of stderr and exit with 2."""


class Section(BaseModel):
    """A table of a configuration file. Unknown keys are errors: they are most often misspelt ones."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


Port = Annotated[int, Field(ge=1, le=65535)]


class BrokerSettings(Section):
    """How to reach the broker. Secrets stand in files, never here."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """A name or an address."""
    port: Port = 1883
    """1883 is usual without TLS, 8883 with it."""
    protocol: Literal["5", "3.1.1"] = "5"
    """The version of MQTT; the embedded broker and NATS speak 3.1.1 only."""
    username: str | None = None
    """Where the broker asks for one."""
    password_file: str | None = None
    """A file whose first line is the password."""
    ca_file: str | None = None
    """The authority that signed the broker's certificate; switches TLS on."""
    cert_file: str | None = None
    """Our own certificate, where the broker asks for one; together with `key_file`."""
    key_file: str | None = None
    """The key of `cert_file`."""
    credentials_file: str | None = None
    """The one file that `zeroloop credentials` makes, in the place of the four above; host and port come with it."""

    @model_validator(mode="after")
    def _one_way_to_be_known(self) -> Self:
        others = self.username, self.password_file, self.ca_file, self.cert_file, self.key_file
        if self.credentials_file is not None and any(other is not None for other in others):
            raise ValueError(
                "credentials_file stands alone: without username, password_file, ca_file, cert_file, key_file"
            )
        return self


S = TypeVar("S", bound=Section)


def parse(model: type[S], text: str, *, source: str, environment: Mapping[str, str]) -> S:
    """Return the settings in a TOML text, overridden by environment variables.

    `ZEROLOOP_CONTROL_DELAY_S=12` overrides `delay_s` of `[control]`; only keys of tables, not of lists, have such a
    variable.

    Raises:
        ConfigurationError: one line that names the file (or the variable), the key and what is allowed.
    """
    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigurationError(f"{source}: not TOML: {error}") from None
    overridden = _override(model, document, environment)
    document = _tuples(document)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(explain(model, document, error, overridden, source)) from None


def validate(model: type[S], document: Mapping[str, Any], *, source: str) -> S:
    """Return the settings in a table that is already read (a driver's own keys).

    Raises:
        ConfigurationError: one line that names the source, the key and what is allowed.
    """
    table = _tuples(dict(document))
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise ConfigurationError(explain(model, table, error, {}, source)) from None


def variables(model: type[Section]) -> dict[str, tuple[str, str]]:
    """Return the environment variables of a configuration: name → (table, key)."""
    return {
        f"{ENVIRONMENT_PREFIX}{section}_{key}".upper(): (section, key)
        for section, field in model.model_fields.items()
        if (table := _table(field.annotation)) is not None
        for key in table.model_fields
    }


def _override(model: type[Section], document: dict[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    overridden: dict[str, str] = {}
    for variable, (section, key) in variables(model).items():
        if variable not in environment:
            continue
        table = document.setdefault(section, {})
        if isinstance(table, dict):
            place = Place(model.model_json_schema(), document)
            place.enter(section)
            place.enter(key)
            table[key] = _value(environment[variable], is_text=place.takes_text)
            overridden[f"{section}.{key}"] = variable
    return overridden


def _value(text: str, *, is_text: bool) -> Any:  # noqa: ANN401 - a TOML value is of any type
    """Return what a variable holds: text as it is (`5` may be one), anything else as TOML has it."""
    if is_text:
        return text
    try:
        return tomli.loads(f"value = {text}")["value"]
    except tomli.TOMLDecodeError:
        return text


def _tuples(value: Any) -> Any:  # noqa: ANN401 - a TOML value is of any type
    """Strict models take tuples where TOML gives lists."""
    match value:
        case dict():
            return {key: _tuples(item) for key, item in value.items()}
        case list():
            return tuple(_tuples(item) for item in value)
        case _:
            return value


def _table(annotation: Any) -> type[Section] | None:  # noqa: ANN401 - annotations are of any type
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType):
        return next((table for item in get_args(annotation) if (table := _table(item)) is not None), None)
    if get_origin(annotation) in (tuple, Annotated):
        return None if get_origin(annotation) is tuple else _table(get_args(annotation)[0])
    return None
