"""YAML documents: what is read, where each value stands, and what is said of one that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from prism_ray.documents import (
    Document,
    StrictModel,
    fields_at,
    lists_to_tuples,
    read_document,
    validate_document,
    validate_part,
)
from prism_ray.errors import CatalogError, ConfigError, FaultList


class Inner(StrictModel):
    size: int = 1
    ratio: float = 0.5


class Outer(StrictModel):
    name: str
    inner: Inner = Inner()
    parts: dict[str, Inner] = Field(default_factory=dict)
    steps: tuple[int, ...] = ()
    chosen: Literal["all"] | tuple[str, ...] = "all"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.yaml"


def read(file: Path, text: str) -> Document:
    file.write_text(text, encoding="utf-8")
    return read_document(file, ConfigError)


def refusal(file: Path, text: str) -> str:
    """Message for a document, with the file's name for its path."""
    with pytest.raises(ConfigError) as caught:
        validate_document(read(file, text), Outer, ConfigError)
    return str(caught.value).replace(str(file), "a.yaml")


def test_every_value_has_its_line(file: Path) -> None:
    document = read(file, "name: x\n\ninner:\n  size: 2\nsteps:\n- 1\n- 2\n")
    expected = {
        ("name",): "1: name",
        ("inner",): "3: inner",
        ("inner", "size"): "4: inner.size",
        ("inner", "absent"): "3: inner.absent",
        ("steps", 1): "7: steps.1",
        ("nowhere", "at", "all"): "1: nowhere.at.all",
    }
    assert {place: document.where(place) for place in expected} == {
        place: f"{file}:{text}" for place, text in expected.items()
    }
    assert document.where(()) == f"{file}:1"


# Letters, digits and signs: what PyYAML itself gives back as it was written.
TEXT = st.text(st.characters(categories=["L", "N", "P"]), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(TEXT, children, max_size=3),
    max_leaves=12,
)


@given(content=st.dictionaries(TEXT, JSON, max_size=4))
def test_content_is_what_yaml_says_and_every_place_has_a_line(
    content: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    document = read(file, yaml.safe_dump(content, allow_unicode=True))
    assert document.data == content

    def check(value: object, place: tuple[str | int, ...]) -> None:
        assert place in document._lines
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in pairs:
            check(item, (*place, key))

    check(content, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml: holds no settings; write `key: value` lines at the top level"),
        ("- 1\n", "a.yaml: holds no settings; write `key: value` lines at the top level"),
        ("just words", "a.yaml: holds no settings; write `key: value` lines at the top level"),
        ("name: x\na: b: c\n", "a.yaml:2: is not valid YAML (mapping values are not allowed here)"),
        ("name: x\n\tinner: 1\n", "a.yaml:2: is not valid YAML (found character '\\t' that cannot start any token)"),
        ("name: x\n---\nname: y\n", "a.yaml:2: is not valid YAML (but found another document)"),
        ("name: 2020-13-45\n", "a.yaml: is not valid YAML (month must be in 1..12)"),
        ("name: x\nname: y\n", "a.yaml:2: name: is given twice; keep one of the two"),
        (
            "name: x\ninner:\n  size: 1\n  ratio: 1.0\n  size: 1\nname: y\n",
            "2 faults:\n  a.yaml:5: inner.size: is given twice; keep one of the two\n"
            "  a.yaml:6: name: is given twice; keep one of the two",
        ),
        ("? [a]\n: b\n", "a.yaml:1: is not valid YAML (found unhashable key)"),
        (
            "name: !!python/object/apply:os.system [ls]\n",
            "a.yaml:1: is not valid YAML (could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system')",
        ),
        ("name: &a [*a]\n", "a.yaml: is nested too deeply, or a part of it holds itself; write it out plainly"),
        ("name: " + "[" * 5000, "a.yaml: is nested too deeply, or a part of it holds itself; write it out plainly"),
    ],
)
def test_texts_that_are_no_document(file: Path, text: str, message: str) -> None:
    assert refusal(file, text) == message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    expected = {
        "nowhere.yaml": "no such file; give the path of a YAML file",
        ".": "is a folder; give the path of a YAML file",
        "binary.yaml": "cannot be read as UTF-8 text (",
    }
    for name, message in expected.items():
        # The caller says which kind of file it is: its error is raised.
        with pytest.raises(CatalogError) as caught:
            read_document(tmp_path / name, CatalogError)
        assert str(caught.value).startswith(f"{tmp_path / name}: {message}")


def test_a_valid_document_is_built(file: Path) -> None:
    text = "name: x\nparts: {a: {size: 3}}\nsteps: [1, 2]\nchosen: [u, v]\n"
    built = validate_document(read(file, text), Outer, ConfigError)
    assert built == Outer(name="x", parts={"a": Inner(size=3)}, steps=(1, 2), chosen=("u", "v"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inner: {}\n", "a.yaml:1: name: is missing; this field is required"),
        (
            "name: x\ninner:\n  sise: 3\n",
            "a.yaml:3: inner.sise: is not a known field; use one of ratio, size. Did you mean 'size'?",
        ),
        (
            "name: x\nparts:\n  a:\n    rato: 1.0\n",
            "a.yaml:4: parts.a.rato: is not a known field; use one of ratio, size. Did you mean 'ratio'?",
        ),
        (
            "name: x\nnam: y\n",
            "a.yaml:2: nam: is not a known field; use one of chosen, inner, name, parts, steps. Did you mean 'name'?",
        ),
        (
            "name: x\ninner: {ratio: 5e-4}\n",
            "a.yaml:2: inner.ratio: '5e-4' is text to YAML, not a number; write 5.0e-4",
        ),
        ("name: x\ninner: {ratio: 1E5}\n", "a.yaml:2: inner.ratio: '1E5' is text to YAML, not a number; write 1.0e+5"),
        (
            "name: x\ninner: {ratio: -2.5e3}\n",
            "a.yaml:2: inner.ratio: '-2.5e3' is text to YAML, not a number; write -2.5e+3",
        ),
        ("name: x\ninner: {size: 5e4}\n", "a.yaml:2: inner.size: '5e4' is text to YAML, not a number; write 5.0e+4"),
        ("name: x\ninner: {size: true}\n", "a.yaml:2: inner.size: True: input should be a valid integer"),
        ("name: x\ninner: {size: 2.0}\n", "a.yaml:2: inner.size: 2.0: input should be a valid integer"),
        ("name: x\ninner: {ratio: no}\n", "a.yaml:2: inner.ratio: False: input should be a valid number"),
        ("name: 5\n", "a.yaml:1: name: 5: input should be a valid string"),
        (
            "name: x\nna[me: y\n",
            "a.yaml:2: na[me: is not a known field; use one of chosen, inner, name, parts, steps. Did you mean 'name'?",
        ),
        ("name: x\ninner: {str: 1}\n", "a.yaml:2: inner.str: is not a known field; use one of ratio, size"),
        ("name: x\ninner:\n", "a.yaml:2: inner: null: input should be a mapping of fields"),
        ("name: x\ninner: [1, [a]]\n", "a.yaml:2: inner: [1, ['a']]: input should be a mapping of fields"),
        ("name: x\nparts: [a]\n", "a.yaml:2: parts: ['a']: input should be a mapping"),
        ("name: x\nsteps: 3\n", "a.yaml:2: steps: 3: input should be a list"),
        ("name: x\nsteps:\n- 1\n- b\n", "a.yaml:4: steps.1: 'b': input should be a valid integer"),
        ("name: x\nchosen: some\n", "a.yaml:2: chosen: 'some': input should be 'all', or input should be a list"),
        (
            "name: x\non: y\n",
            "a.yaml:1: True is no name of a field; put the name in quotes: YAML reads digits as a number, and on, off, "
            "yes and no as true or false",
        ),
        (
            "nam: x\ninner: {size: b}\nsteps: 3\n",
            "4 faults:\n  a.yaml:1: name: is missing; this field is required\n"
            "  a.yaml:2: inner.size: 'b': input should be a valid integer\n"
            "  a.yaml:3: steps: 3: input should be a list\n"
            "  a.yaml:1: nam: is not a known field; use one of chosen, inner, name, parts, steps. Did you mean 'name'?",
        ),
    ],
)
def test_values_that_are_refused(file: Path, text: str, message: str) -> None:
    assert refusal(file, text) == message


def test_a_number_that_yaml_reads_is_taken(file: Path) -> None:
    assert validate_document(read(file, "name: x\ninner: {ratio: 5.0e-4}\n"), Outer, ConfigError).inner.ratio == 5e-4
    # A whole number is a number.
    assert validate_document(read(file, "name: x\ninner: {ratio: 2}\n"), Outer, ConfigError).inner.ratio == 2.0


def test_a_part_adds_its_faults_to_those_of_the_file(file: Path) -> None:
    document = read(file, "a:\n  size: 2\nb:\n  size: x\n")
    faults = FaultList()
    assert validate_part(document, ("a",), document.data["a"], Inner, faults) == Inner(size=2)
    assert not faults
    assert validate_part(document, ("b",), document.data["b"], Inner, faults) is None
    assert [str(fault) for fault in faults.faults] == [f"{file}:4: b.size: 'x': input should be a valid integer"]


def test_fields_at_a_place() -> None:
    assert fields_at(Outer, ("inner",)) == ["size", "ratio"]
    assert fields_at(Outer, ("parts", "any")) == ["size", "ratio"]
    assert fields_at(Outer, ("steps",)) == []
    assert fields_at(Outer, ("nowhere",)) == []


def test_lists_become_tuples_at_every_depth() -> None:
    assert lists_to_tuples({"a": [1, [2, {"b": [3]}]]}) == {"a": (1, (2, {"b": (3,)}))}
