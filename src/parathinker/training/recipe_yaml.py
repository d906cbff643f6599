"""Reading recipes: YAML to dataclasses; unknown, missing and ill-typed keys are named."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from parathinker.errors import MissingExtraError, UsageError
from parathinker.training.recipe import (
    DataRecipe,
    LoraRecipe,
    ModelRecipe,
    Recipe,
    SamplesRecipe,
    StageRecipe,
    ValidationRecipe,
)

T = TypeVar("T")


def read_recipe(file: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        changes: other values, such as ``model.base=runs/other`` or ``stages.own.steps=100``, with a
            stage's name or its number from 0; values are YAML.

    Raises:
        UsageError: no such file, not YAML, a change of what is not there, or a key that is unknown,
            missing or out of range.
        MissingExtraError: the ``train`` extra is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    if not file.is_file():
        raise UsageError(f"recipe {file} does not exist")
    try:
        raw = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {file} is not valid YAML: {error}") from error
    for change in changes:
        path, given, value = change.partition("=")
        if not given:
            raise UsageError(f"a change of a recipe looks like model.base=FOLDER; got {change!r}")
        try:
            _change(raw, path.split("."), yaml.safe_load(value), path)
        except yaml.YAMLError as error:
            raise UsageError(f"the value of {change!r} is not valid YAML: {error}") from error
    return parse_recipe(raw)


def _change(raw: Any, names: Sequence[str], value: Any, path: str) -> None:
    """Put a value where a path of names leads; its last name may be new."""
    where = raw
    for i, name in enumerate(names):
        key: str | int = name
        if isinstance(where, list):
            known = [one.get("name") for one in where if isinstance(one, dict)]
            key = int(name) if name.isdecimal() else known.index(name) if name in known else -1
            there = 0 <= key < len(where)
        else:
            there = isinstance(where, dict) and (name in where or i == len(names) - 1)
        if not there:
            raise UsageError(f"recipe: {path} cannot be set, there is no {name!r}")
        if i == len(names) - 1:
            where[key] = value
        else:
            where = where[key]


def parse_recipe(raw: Any) -> Recipe:
    """The same from parsed YAML."""
    top = dict(_mapping(raw, "recipe"))
    stages = top.get("stages")
    if not isinstance(stages, (list, tuple)):
        raise UsageError("recipe: 'stages' should be a list")
    parsed = []
    for i, stage in enumerate(stages):
        where = f"stages[{i}]"
        stage = dict(_mapping(stage, where))
        stage["data"] = _build(DataRecipe, stage.get("data"), f"{where}.data")
        parsed.append(_build(StageRecipe, stage, where))
    model = dict(_mapping(top.get("model"), "model"))
    if model.get("lora") is not None:
        model["lora"] = _build(LoraRecipe, model["lora"], "model.lora")
    if top.get("samples") is not None:
        top["samples"] = _build(SamplesRecipe, top["samples"], "samples")
    if top.get("validation") is not None:
        top["validation"] = _build(ValidationRecipe, top["validation"], "validation")
    top |= {"model": _build(ModelRecipe, model, "model"), "stages": tuple(parsed)}
    return _build(Recipe, top, "recipe")


def _mapping(raw: Any, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise UsageError(f"recipe: {where} should be a mapping, got {type(raw).__name__}")
    return raw


_SCALARS = {"int": int, "float": float, "bool": bool, "str": str, "dict[str, Any]": dict}
_ITEMS = {"tuple[int, ...]": int, "tuple[str, ...]": str}


def _build(kind: type[T], raw: Any, where: str) -> T:
    values = dict(_mapping(raw, where))
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise UsageError(f"recipe: {where} has no key {key!r}; known: {', '.join(known)}")
    for name, spec in known.items():
        if name in values:
            values[name] = _value(values[name], str(spec.type), f"{where}.{name}")
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise UsageError(f"recipe: {where} lacks {name!r}")
    return kind(**values)


def _value(value: Any, kind: str, where: str) -> Any:
    if isinstance(value, list):
        value = tuple(value)
    if kind.endswith(" | None"):
        if value is None:
            return None
        kind = kind.removesuffix(" | None")
    if kind == "float" and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError):  # YAML reads 1e-3 as a string
            value = float(value)
    item = _ITEMS.get(kind)
    if item is not None and not (
        isinstance(value, tuple) and all(type(entry) is item for entry in value)
    ):
        raise UsageError(f"recipe: {where} should be a list of {item.__name__}, got {value!r}")
    wanted = _SCALARS.get(kind)
    if wanted is not None and (
        not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))
    ):
        name = "mapping" if wanted is dict else kind
        raise UsageError(f"recipe: {where} should be {name}, got {value!r}")
    return value
