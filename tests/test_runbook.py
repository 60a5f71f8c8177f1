"""The runbook's sentences are the program's own: a reader who searches for what is on the screen finds it."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNBOOK = (ROOT / "cluster" / "runbook.md").read_text()
QUOTED = [
    line
    for block in re.findall(r"```text\n(.*?)```", RUNBOOK, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
HOLE = "\0"


def said(node):
    """A string of the source, with a hole for each value that is put into it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[-.\d]*[sdgr]|\{\w*[^{}]*\}", HOLE, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else HOLE
            for part in node.values
        )
    return None


def sentences():
    """Every string of the package, but what is only documentation."""
    found = set()
    for path in (ROOT / "ambient_ray").rglob("*.py"):
        tree = ast.parse(path.read_text())
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        found |= {text for node in ast.walk(tree) if id(node) not in documentation and (text := said(node))}
    return found


SAID = sentences()


def is_said(line):
    """Whether one sentence has all parts of a quotation in their order, its holes between them."""
    parts = [re.escape(part.strip()) for part in line.split("…") if part.strip()]
    pattern = re.compile(".*".join(parts), re.DOTALL)
    return any(pattern.search(text) for text in SAID)


def test_a_sentence_that_nobody_says_is_noticed():
    assert is_said("study … is being searched by process …") and not is_said("the … has eaten the checkpoint")
    assert not is_said("already; … is being searched by process")  # in another order


@pytest.mark.parametrize("line", QUOTED)
def test_the_program_says_it(line):
    fragments = [part for part in line.split("…") if len(part.strip()) > 3]
    assert fragments and is_said(line), line


@pytest.mark.parametrize(
    "subject",
    [
        "driver was killed", "head node was lost", "worker was killed", "spot node", "raylet dies", "network between",
        "hangs", "Out of memory", "diverges", "disk is full", "bucket answers 503", "MLflow is away", "PostgreSQL",
        "checkpoint is corrupt", "clock jumps", "shape cannot fit", "No node has room", "token is missing",
        "second driver", "Settings were changed", "Image and lock differ",
    ],
)  # fmt: skip
def test_it_covers(subject):
    assert re.search(rf"^\*\*.*{subject}|{subject}", RUNBOOK, re.MULTILINE)


def test_its_commands_are_ones_that_there_are():
    from ambient_ray.status import parser

    asked = re.findall(r"`ambient-status ([^`]*)`", RUNBOOK)
    assert asked
    for options in asked:
        words = shlex.split(options)
        parser().parse_args(words if not words[0].startswith("--") else ["STUDY", *words])


def test_every_event_that_it_asks_for_is_one_that_is_logged():
    source = (ROOT / "ambient_ray" / "console" / "search_log.py").read_text()
    for event in re.findall(r'\.event == "([^"]*)"', RUNBOOK):
        assert f'"{event}"' in source
