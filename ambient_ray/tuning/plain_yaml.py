"""YAML as a person writes it: data of bounded size and depth, each key once; and values as an error shows them.

YAML may repeat a part by an alias, so that a file of a few lines stands for gigabytes, or hold itself. Such files are
refused before any of it is built, as is what would name a key twice, of which the last would silently count.
"""

from typing import Any

import yaml

MOST_CHARACTERS = 2**20
MOST_VALUES = 20_000  # aliases written out
DEEPEST = 40
LONGEST_SHOWN = 160


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with those bounds."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        aliased = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refused(f"nested more than {DEEPEST} deep", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if aliased and id(node) not in self._sizes:
            raise _refused("an alias stands inside of what it names", node.start_mark)
        if not aliased:
            self._sizes[id(node)] = self._size(node)
        return node

    def _size(self, node: Any) -> int:
        """Values in a node whose parts are counted. Raises YAMLError."""
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            names = [(key.tag, key.value) for key, _ in parts if isinstance(key, yaml.ScalarNode)]
            twice = next((name for number, (_, name) in enumerate(names) if names[number] in names[:number]), None)
            if twice is not None:
                raise _refused(f"names {twice!r:.60} twice", node.start_mark)
            parts = [part for pair in parts for part in pair]
        size = 1 + sum(self._sizes[id(part)] for part in parts)
        if size > MOST_VALUES:
            raise _refused(f"more than {MOST_VALUES:,} values, aliases written out", node.start_mark)
        return size


# Words, numbers, truth values, lists and mappings, as JSON has them. Dates, sets, bytes, objects have no constructor.
_Loader.yaml_constructors = {
    tag: build
    for tag, build in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in {"null", "bool", "int", "float", "str", "seq", "map"}
}


def read_yaml(text: str) -> Any:
    """The data in one YAML document, of JSON's types. Raises yaml.YAMLError, ValueError (numbers too long)."""
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"more than {MOST_CHARACTERS:,} characters")
    try:
        return yaml.load(text, Loader=_Loader)
    except (
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
    ) as error:  # PyYAML's, of tags on values that they do not fit
        raise yaml.YAMLError(f"a value is not what its tag says ({error})") from error


def shown(value: object) -> str:
    """A value for an error's text, of bounded length."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def cut(text: object) -> str:
    """An error's own text in one line, of bounded length."""
    line = " ".join(str(text).split())
    return line if len(line) <= 2 * LONGEST_SHOWN else line[: 2 * LONGEST_SHOWN - 3] + "..."


def _refused(why: str, mark: Any) -> yaml.YAMLError:
    return yaml.YAMLError(f"{why}, line {mark.line + 1}")
