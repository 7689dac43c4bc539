"""
From a job's payload to the arguments of its consumer.

What travelled as text, list or map becomes what the annotations ask for: a ``Path``, a dataclass,
an ``Enum``. What does not fit is an ``ArgumentMismatch``: another try would not change it.
"""

import inspect
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial, reduce
from operator import or_
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from offload.app import Context, is_context
from offload.errors import ArgumentMismatch, ConsumerError, Malformed, PayloadError
from offload.payload import Directory, File, decode, encode

_Parameter = inspect.Parameter
_PLAIN: Final = (bool, bytes, int, str)  # of which pydantic lets each value pass as it is
_Members: TypeAlias = tuple[tuple[Any, Enum], ...]  # what travels of each, and the member
_NAMED: Final = (_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY)
# First word of pydantic's kind of error -> what a person reads.
_WANTED: Final = MappingProxyType(
    {
        "int": "an integer",
        "float": "a number",
        "string": "text",
        "bool": "true or false",
        "list": "a list",
        "tuple": "a list",
        "set": "a list",
        "dict": "a map",
        "dataclass": "a map",
        "model": "a map",
        "bytes": "bytes",
        "none": "nothing",
        "path": "a path",
    }
)


def bind(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    context: Context | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Return what to call ``function`` with: each argument as its annotation wants it.

    Args:
        function: The consumer.
        arguments: By name; those named by digits (``"0"``, ``"1"``) are bound by position.
        context: Given to the parameter that asks for a ``Context``.

    Raises:
        ArgumentMismatch: If one is missing, unexpected, or does not fit its annotation.
        ConsumerError: If an annotation of the consumer cannot be used.
    """
    form = _form(function)
    if form is None:
        return _unknown(arguments)
    if form.takes(arguments):
        return (), dict(arguments)
    values = form.typed(form.named(arguments))
    if form.context:
        values[form.context] = context
    if form.only_names:
        return (), values
    bound = inspect.BoundArguments(form.signature, values)
    return bound.args, bound.kwargs


@dataclass(frozen=True, slots=True)
class _Form:
    """
    What a consumer takes, made ready once.

    Attributes:
        signature: Its signature.
        positional: Names of the parameters that may be given by position.
        names: Names of all parameters that take one argument.
        required: Those that must be given.
        rest: Name of ``*args``, or "".
        others: Name of ``**kwargs``, or "".
        context: Name of the parameter that is given the context, or "".
        only_names: Whether every parameter may be given by name.
        paths: Names of the parameters that want a ``Path``, or several: of files, they get that.
        plain: Parameter name -> its type, of those that take that plain type and nothing else.
        fields: Parameter name -> its field in ``model``.
        model: Has a field per annotated parameter; the fields have names of ours, as not every
            parameter name may be one.
    """

    signature: inspect.Signature
    positional: tuple[str, ...]
    names: frozenset[str]
    required: tuple[str, ...]
    rest: str
    others: str
    context: str
    only_names: bool
    paths: frozenset[str]
    plain: Mapping[str, type]
    fields: Mapping[str, str]
    model: type[BaseModel]

    def takes(self, arguments: Mapping[str, Any]) -> bool:
        """Say whether it takes ``arguments`` as they are: all of plain types, and by name."""
        return (
            self.only_names
            and not self.context
            and len(arguments) == len(self.names)
            and self._fits(arguments)
        )

    def named(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``arguments`` by parameter name; raise if one is missing, twice or unexpected."""
        values: dict[str, Any] = {}
        rest: dict[int, Any] = {}
        others: dict[str, Any] = {}
        for key, value in arguments.items():
            at = int(key) if key.isdecimal() and key.isascii() else None
            name = key if at is None or at >= len(self.positional) else self.positional[at]
            if name in values:
                raise ArgumentMismatch(name, "is given twice, by position and by name")
            if name in self.names:
                values[name] = value
            elif at is not None and self.rest:
                rest[at] = value
            elif at is None and self.others:
                others[name] = value
            else:
                raise ArgumentMismatch(name, self._unexpected(name))
        missing = next((name for name in self.required if name not in values), None)
        if missing is not None:
            raise ArgumentMismatch(missing, "is missing")
        if rest:
            values[self.rest] = [rest[at] for at in sorted(rest)]
        if others:
            values[self.others] = others
        return values

    def _unexpected(self, name: str) -> str:
        takes = ", ".join(p for p in self.signature.parameters if p in self.names) or "nothing"
        what = "is one argument too many" if name.isdecimal() else "is not an argument"
        return f"{what}; the consumer takes {takes}"

    def typed(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return ``values`` as the annotations want them; raise at the first that does not fit."""
        if not self.fields or self._fits(values):
            return values
        for name in self.paths & values.keys():
            values[name] = _as_paths(values[name])
        wanted = {self.fields[name]: values[name] for name in values if name in self.fields}
        try:
            made = self.model.model_validate(wanted, by_alias=True, by_name=True)
        except ValidationError as error:
            raise self._mismatch(error) from None
        for name in values:
            if name in self.fields:
                values[name] = getattr(made, self.fields[name])
        return values

    def _fits(self, values: Mapping[str, Any]) -> bool:
        """Say whether all values are of the plain types wanted: there is nothing to be made."""
        plain = self.plain
        return len(plain) == len(self.names) and all(
            type(value) is plain.get(name) for name, value in values.items()
        )

    def _mismatch(self, error: ValidationError) -> ArgumentMismatch:
        first = error.errors(include_url=False, include_context=False)[0]
        field, *inner = first["loc"]
        name = next(name for name, own in self.fields.items() if own == field)
        path = name + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in inner)
        kind = first["type"]
        if kind == "missing":
            return ArgumentMismatch(path, "is missing")
        wanted = _WANTED.get(kind.split("_", 1)[0])
        reason = f"must be {wanted}" if wanted and _is_plain(kind) else _words(first["msg"])
        return ArgumentMismatch(path, f"{reason}, got {reprlib.repr(first['input'])}")


def _is_plain(kind: str) -> bool:
    """Say whether the error is about the type as such, not about a limit or a pattern."""
    return kind.endswith(("_type", "_parsing", "_from_float"))


def _words(message: str) -> str:
    message = message.replace("Input should be an instance of ", "must be a ")
    return message.replace("Input should", "must").replace("must be valid", "must be a valid")


@lru_cache(maxsize=1024)
def _form(function: Callable[..., Any]) -> _Form | None:
    """Return the form of ``function``; None if it does not tell its parameters."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C
        return None
    name = getattr(function, "__qualname__", repr(function))
    try:
        hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise ConsumerError(name, f"its annotations cannot be resolved: {error}") from None
    parameters = signature.parameters.values()
    context = next((p.name for p in parameters if is_context(hints.get(p.name))), "")
    plain = [p for p in parameters if p.kind is _Parameter.POSITIONAL_ONLY or p.kind in _NAMED]
    plain = [p for p in plain if p.name != context]
    kinds = {p.kind: p.name for p in parameters}
    wanted = {
        p.name: _rebuilding(_annotation(p, hints))
        for p in parameters
        if p.name != context and hints.get(p.name, Any) is not Any
    }
    fields = {own: f"p{at}" for at, own in enumerate(wanted)}
    return _Form(
        signature=signature,
        positional=tuple(p.name for p in plain if p.kind is not _Parameter.KEYWORD_ONLY),
        names=frozenset(p.name for p in plain),
        required=tuple(p.name for p in plain if p.default is _Parameter.empty),
        rest=kinds.get(_Parameter.VAR_POSITIONAL, ""),
        others=kinds.get(_Parameter.VAR_KEYWORD, ""),
        context=context,
        only_names=all(p.kind in _NAMED for p in parameters),
        paths=frozenset(own for own, kind in wanted.items() if _is_path(kind)),
        plain={own: kind for own, kind in wanted.items() if kind in _PLAIN},
        fields=fields,
        model=_model(name, {fields[own]: (kind, None) for own, kind in wanted.items()}),
    )


def _is_path(kind: Any) -> bool:
    kinds = tuple(_parts(kind))
    return Path in kinds and File not in kinds and Directory not in kinds


def _parts(kind: Any) -> Iterator[Any]:
    """Yield an annotation and all that it is made of."""
    yield kind
    for part in get_args(kind):
        yield from _parts(part)


def _as_paths(value: Any) -> Any:
    """Return ``value`` with its path in place of each file, also in lists and maps."""
    if isinstance(value, list):
        return [_as_paths(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _as_paths(entry) for name, entry in value.items()}
    return value.path if isinstance(value, File) else value


def _annotation(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Any:
    kind = hints[parameter.name]
    if parameter.kind is _Parameter.VAR_POSITIONAL:
        return list[kind]  # type: ignore[valid-type]  # known only now
    if parameter.kind is _Parameter.VAR_KEYWORD:
        return dict[str, kind]  # type: ignore[valid-type]  # known only now
    return kind


def _rebuilding(kind: Any) -> Any:
    """Return ``kind`` so that it takes the members of an ``Enum`` by what travels of them too."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        other = _travels_otherwise(kind)
        return Annotated[kind, BeforeValidator(partial(_member, other))] if other else kind
    origin, parts = get_origin(kind), get_args(kind)
    if not parts or origin in (Literal, type):
        return kind
    made = tuple(map(_rebuilding, parts))
    if all(new is old for new, old in zip(made, parts, strict=True)):
        return kind
    if origin is Annotated:
        return Annotated[made]
    return reduce(or_, made) if origin in (Union, UnionType) else origin[made]


def _travels_otherwise(kind: type[Enum]) -> _Members:
    """Return what comes of those members whose value, such as a tuple, does not come as it is."""
    found = []
    for member in kind:
        try:
            travelled = decode(encode(member.value).data)
        except (PayloadError, Malformed):  # it never comes
            continue
        if travelled != member.value:
            found.append((travelled, member))
    return tuple(found)


def _member(members: _Members, value: Any) -> Any:
    return next((member for travelled, member in members if travelled == value), value)


def _model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    config = ConfigDict(arbitrary_types_allowed=True)
    try:
        return create_model("Arguments", __config__=config, **fields)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
        reason = str(error).splitlines()[0]
        raise ConsumerError(name, f"its annotations cannot be used: {reason}") from None


def _unknown(arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments for a function that does not tell its parameters."""
    places = sorted((int(key), value) for key, value in arguments.items() if key.isdecimal())
    named = {key: value for key, value in arguments.items() if not key.isdecimal()}
    return tuple(value for _, value in places), named
