"""A YAML file as plain data, with the line of each key and the environment's values in place of `${VAR}`.

Plain words are read as in YAML 1.2: `yes`, `on` and `18:00` are strings, not a truth and a number of minutes; a key is always
a string.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from execution_engine.config.places import Keys, Places, Problems
from execution_engine.descriptors import plain_content
from execution_engine.errors import ConfigError

_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_START = yaml.Mark("", 0, 0, 0, "", 0)
_STRING_TAG = "tag:yaml.org,2002:str"


class _Loader(yaml.SafeLoader):
    """Leaves it to `_plain_value` what an unquoted word means."""

    yaml_implicit_resolvers: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Document:
    """A file's data, where each key stands, and what was wrong with the file itself."""

    data: dict[str, Any]
    places: Places
    problems: Problems


def read(file: Path, environment: Mapping[str, str], only: Collection[str] | None = None) -> Document:
    """Reads a file, or `only` these keys of it.

    Raises ConfigError when it cannot be read or is not YAML; lesser problems are in `problems`.
    """
    reader = _Reader(environment)
    root = _root(file)
    if only is not None and isinstance(root, yaml.MappingNode):
        root.value = [(key, value) for key, value in root.value if key.value in only]
    data = reader.value((), root)
    places = Places(file, reader.lines, frozenset(reader.hidden))
    problems = Problems(places)
    for keys, what in reader.found:
        problems.add(keys, what)
    if not isinstance(data, dict):
        raise ConfigError([f"{file}:1: expected keys and values, such as `jobs_dir: jobs`"])
    return Document(data, places, problems)


def _root(file: Path) -> yaml.Node:
    try:
        root = yaml.compose(plain_content(file).decode("utf-8"), _Loader)
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: is not UTF-8 text (byte {error.start})"]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError([f"{file}:{mark.line + 1 if mark else 1}: not valid YAML: {what}"]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{file}: not valid YAML: {' '.join(str(error).split())}"]) from None
    return root or yaml.MappingNode("tag:yaml.org,2002:map", [], _START, _START)


@dataclass(slots=True)
class _Reader:
    """Turns nodes into data, and notes lines and problems on the way."""

    environment: Mapping[str, str]
    lines: dict[Keys, int] = field(default_factory=dict)
    found: list[tuple[Keys, str]] = field(default_factory=list)
    hidden: set[Keys] = field(default_factory=set)
    inside: set[int] = field(default_factory=set)

    def value(self, keys: Keys, node: yaml.Node) -> Any:
        """The data of a node."""
        self.lines.setdefault(keys, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(keys, node)
        if id(node) in self.inside:
            self.found.append((keys, "contains itself"))
            return None
        self.inside.add(id(node))
        if isinstance(node, yaml.MappingNode):
            data: Any = self.mapping(keys, node)
        else:
            data = [self.value((*keys, index), item) for index, item in enumerate(node.value)]
        self.inside.remove(id(node))
        return data

    def mapping(self, keys: Keys, node: yaml.MappingNode) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.found.append((keys, "expected a plain word before the colon"))
                continue
            path, line = (*keys, key_node.value), key_node.start_mark.line + 1
            if key_node.value in data:
                self.found.append((path, f"is given twice: in line {self.lines[path]} and in line {line}"))
                continue
            self.lines[path] = line
            data[key_node.value] = self.value(path, value_node)
        return data

    def scalar(self, keys: Keys, node: yaml.ScalarNode) -> Any:
        if node.tag not in (_STRING_TAG, "!"):
            self.found.append((keys, f"tags such as {node.tag} have no meaning here"))
        text: str = node.value
        if "${" in text:
            self.hidden.add(keys)
            return _VARIABLE.sub(lambda match: self.variable(keys, match), text)
        return text if node.style else _plain_value(text)

    def variable(self, keys: Keys, match: re.Match[str]) -> str:
        name, text = match[1], match[0]
        if name is None:
            return "${"
        if not text.endswith("}") or not _VARIABLE_NAME.fullmatch(name):
            self.found.append(
                (keys, f"{text} does not name a variable; expected ${{NAME}}, or $${{ for the characters themselves")
            )
        elif not self.environment.get(name):
            self.found.append((keys, f"the environment variable {name} is not set"))
        return self.environment.get(name, text)


def _plain_value(text: str) -> Any:
    """What an unquoted word means."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
