"""YAML documents read with line numbers and validated against a Pydantic model, all faults at once.

Only `yaml.SafeLoader` is used: a document is data, never code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from prism_ray.errors import Fault, FaultList, PrismRayError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]

# What YAML 1.1 reads as text although it looks like a number: an exponent without a dot or a sign.
_NUMBER_AS_TEXT = re.compile(r"^[+-]?\d+(\.\d*)?[eE][+-]?\d+$")

# What Pydantic names by Python's types, in the words of YAML.
_EXPECTED = {"model_type": "a mapping of fields", "dict_type": "a mapping", "tuple_type": "a list"}


class StrictModel(BaseModel):
    """Base of all settings: frozen, unknown fields refused, no coercion between text, numbers and booleans."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Document:
    """A YAML mapping with the line of every value.

    Attributes:
        path: file that was read.
        data: its content; mappings, lists and scalars only.
    """

    def __init__(self, path: Path, data: dict[str, Any], lines: Mapping[Place, int]) -> None:
        self.path = path
        self.data = data
        self._lines = lines

    def where(self, place: Place) -> str:
        """`file:line: dotted.path` of a place, or of its nearest ancestor that exists."""
        known = place
        while known and known not in self._lines:
            known = known[:-1]
        line = self._lines.get(known, 1)
        dotted = ".".join(str(part) for part in place)
        return f"{self.path}:{line}" + (f": {dotted}" if dotted else "")


def read_document(path: Path, error: type[PrismRayError]) -> Document:
    """Content of a YAML file whose top level is a mapping.

    Raises:
        error: the file is missing, is not text or not YAML, repeats a key, or is not a mapping.
    """
    faults = FaultList()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        faults.add(str(path), "no such file", "give the path of a YAML file")
    except IsADirectoryError:
        faults.add(str(path), "is a folder", "give the path of a YAML file")
    except (OSError, UnicodeDecodeError) as problem:
        faults.add(str(path), f"cannot be read as UTF-8 text ({problem})")
    faults.raise_if_any(error)
    lines: dict[Place, int] = {}
    data: Any = None
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _index_lines(node, (), lines, faults, path)
                data = loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        faults.add(f"{path}{line}", f"is not valid YAML ({getattr(problem, 'problem', None) or problem})")
    except RecursionError:
        faults.add(str(path), "is nested too deeply, or a part of it holds itself", "write it out plainly")
    else:
        if not isinstance(data, dict):
            faults.add(str(path), "holds no settings", "write `key: value` lines at the top level")
    faults.raise_if_any(error)
    return Document(path, data, lines)


def read_value(text: str) -> Any:
    """A scalar or a list of scalars as YAML reads it, lists as tuples.

    Raises:
        ValueError: it is not YAML, or something else; the message goes on from the text.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise ValueError(f"is not valid YAML ({getattr(problem, 'problem', None) or problem})") from None
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)):
        raise ValueError("is neither a single value nor a list of them")
    return lists_to_tuples(value)


def _index_lines(node: yaml.Node, place: Place, lines: dict[Place, int], faults: FaultList, path: Path) -> None:
    lines[place] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node.value, str) else str(key_node.value)
            if key in seen:
                faults.add(
                    f"{path}:{key_node.start_mark.line + 1}: {'.'.join(map(str, (*place, key)))}",
                    "is given twice",
                    "keep one of the two",
                )
            seen.add(key)
            _index_lines(value_node, (*place, key), lines, faults, path)
            lines[(*place, key)] = key_node.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _index_lines(child, (*place, index), lines, faults, path)


def validate_document(document: Document, model: type[Model], error: type[PrismRayError]) -> Model:
    """`model` built from a whole document.

    Raises:
        error: with every fault, each with file, line and dotted path.
    """
    faults = FaultList()
    built = validate_part(document, (), document.data, model, faults)
    faults.raise_if_any(error)
    assert built is not None
    return built


def validate_part(
    document: Document, place: Place, value: object, model: type[Model], faults: FaultList
) -> Model | None:
    """`model` built from one part of a document, or None with the part's faults added to `faults`."""
    try:
        return model.model_validate(lists_to_tuples(value))
    except ValidationError as problem:
        faults.extend(faults_of(problem, model, lambda inner: document.where((*place, *inner))))
        return None


def lists_to_tuples(value: object) -> object:
    """Lists as tuples: settings are frozen, so their sequences are tuples and strict mode takes nothing else."""
    if isinstance(value, dict):
        return {key: lists_to_tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(lists_to_tuples(item) for item in value)
    return value


def faults_of(problem: ValidationError, model: type[BaseModel], where: Callable[[Place], str]) -> list[Fault]:
    """Every fault of a Pydantic error in our words.

    Args:
        where: text for a place inside `model`, for example file, line and dotted path.
    """
    faults: dict[str, Fault] = {}
    for detail in problem.errors():
        unknown = detail["loc"][-1:] if detail["type"] == "extra_forbidden" else ()  # a name, whatever it looks like
        above = detail["loc"][: len(detail["loc"]) - len(unknown)]
        inner = (*(part for part in above if not _is_union_tag(part)), *unknown)
        if detail["type"] == "invalid_key":
            inner = inner[:-1]  # what should name the place is what is wrong
        fault = _fault(detail, inner, model, where(inner))
        # A union reports each branch that failed: what they have in common is the place, so say them as one.
        known = faults.get(fault.where)
        if known is not None and known.problem != fault.problem:
            given = f"{_as_written(detail['input'])}: "
            fault = Fault(fault.where, f"{known.problem}, or {fault.problem.removeprefix(given)}", fault.fix)
        faults[fault.where] = fault
    return list(faults.values())


def _fault(detail: ErrorDetails, inner: Place, model: type[BaseModel], where: str) -> Fault:
    given = detail["input"]
    kind = detail["type"]
    if kind == "extra_forbidden":
        return Fault(where, "is not a known field", did_you_mean(str(inner[-1]), fields_at(model, detail["loc"][:-1])))
    if kind == "missing":
        return Fault(where, "is missing", "this field is required")
    if kind == "invalid_key":
        fix = "put the name in quotes: YAML reads digits as a number, and on, off, yes and no as true or false"
        return Fault(where, f"{given!r} is no name of a field", fix)
    if kind in _EXPECTED:
        return Fault(where, f"{_as_written(given)}: input should be {_EXPECTED[kind]}")
    if isinstance(given, str) and _NUMBER_AS_TEXT.match(given) and kind.startswith(("float", "int")):
        mantissa, exponent = re.split("[eE]", given)
        dotted = mantissa if "." in mantissa else f"{mantissa}.0"
        signed = exponent if exponent[0] in "+-" else f"+{exponent}"
        return Fault(where, f"{given!r} is text to YAML, not a number", f"write {dotted}e{signed}")
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "value_error" or isinstance(given, (dict, BaseModel)):
        return Fault(where, message)
    return Fault(where, f"{_as_written(given)}: {message[0].lower()}{message[1:]}")


def _as_written(given: object) -> str:
    """Text of a value in a document, where a sequence is a list and nothing is null."""
    if isinstance(given, tuple):
        return f"[{', '.join(map(_as_written, given))}]"
    return "null" if given is None else repr(given)


def _is_union_tag(part: str | int) -> bool:
    """True for what Pydantic adds to a location to name the branch of a union that failed."""
    return isinstance(part, str) and (part in _TAGS or "[" in part)


_TAGS = frozenset({"str", "int", "float", "bool", "none"})


def fields_at(model: type[BaseModel], place: Iterable[str | int]) -> list[str]:
    """Names of the fields that a model allows at a place inside it; empty where it takes any name.

    Args:
        model: the model.
        place: of what is inside; where it names the branch of a union, the fields are those of this branch.
    """
    current: Any = model
    for part in place:
        current = _branch(current, part) if _is_union_tag(part) else _annotation_inside(current, part)
    current = _inner_model(current)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []


def _branch(annotation: Any, tag: str | int) -> Any:
    """Branch of a union that has a tag; the union itself where none has."""
    for branch in get_args(annotation):
        if any(getattr(mark, "tag", None) == tag for mark in getattr(branch, "__metadata__", ())):
            return branch
    return annotation


def _annotation_inside(annotation: Any, part: str | int) -> Any:
    """Annotation of one part of an annotated value: a model's field, a mapping's value, a list's item; else None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return None if field is None else field.annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return arguments[1]
    if origin in (tuple, list):
        return arguments[0]
    # A union, or an annotated type: the first branch that goes on.
    found = (_annotation_inside(argument, part) for argument in arguments)
    return next((inner for inner in found if inner is not None), None)


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None
