"""YAML that no writer would write, and text around documents."""

import yaml
from hypothesis import strategies as st

from .mutations import Raw, document_edits, edited, edits, mutate

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(9)
)
ODD = (
    "", "\n", "---\n---\n", "a", "- a", "[", "{", "}", "&a [*a]", "&a {a: *a}", "*nowhere", LAUGHS,
    f"parameters: {{sigma_tn: {{choices: &a [{'1, ' * 50}1]}}}}\n{LAUGHS}",
    LAUGHS.replace("i: &i", "baselines: &i"), LAUGHS.replace("j: &j", "parameters: &j"), LAUGHS.replace("j: &j", "- "),
    "!!python/object/apply:os.system [\"touch canary\"]", "!!python/object/new:os.system [x]", "!!python/name:os.system",
    "!!python/tuple [1, 2]", "parameters: !!python/object:pathlib.Path {}", "!!binary x", "!!binary aGVsbG8=", "!!set {a, b}",
    "!!omap [a: 1]", "!!timestamp x", "!!int x", "!!float y", "!!bool z", "!!null x", "!!str {a: b}", "!unknown 1", "!<x> 1",
    "2001-99-99", "a: 2001-01-01", "? [1, 2]\n: 3", "? {a: 1}\n: 3", "1: 2\nb: 3\n", "null: 1", "<<: 1", "<<: {a: 1}",
    "a: &a {<<: *a}", "<<: [{a: 1}, [1]]", "[" * 3000, "{a: " * 3000, "- " * 3000, "? " * 2000, "[" * 200 + "]" * 200,
    "a: " + "9" * 5000, "a: 1e999", "a: 190:20:30", "a: 0x" + "f" * 400, "a: 0o777", "a: .inf", "a: \"\\ud800\"", "\0", "\ufeffa: 1",
    "%YAML 9.9\n---\na: 1", "%TAG ! x\n", "a: |\n  x", "a: >99\n x", "\ta: 1", "a: 1\na: 2", "a: &x 1\nb: &x 2", "# nothing",
    "parameters: {sigma_tn: {low: 0.1, high: 2}, sigma_tn: {low: 0.1, high: 1}}", "x" * 20000, "k" * 2000 + ": 1",
)  # fmt: skip


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(Raw, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", str(value)[:500]))


@st.composite
def yaml_texts(draw, documents: tuple[object, ...]) -> tuple[bool, bytes]:
    """(whether it is one of the documents as it was, the text)."""
    way = draw(st.integers(0, 9))
    if way == 0:
        return False, draw(st.sampled_from(ODD)).encode("utf-8", "surrogatepass")
    document = draw(st.sampled_from(documents))
    changes = draw(document_edits)
    text = yaml.dump(edited(document, changes), Dumper=_Dumper, sort_keys=False, allow_unicode=way < 5)
    data = text.encode("utf-8", "surrogatepass")
    if way == 1:
        data += draw(st.sampled_from(ODD)).encode("utf-8", "surrogatepass")
    damage = draw(edits) if way in (2, 3) else []
    return way != 1 and not changes and not damage, mutate(data, damage)
