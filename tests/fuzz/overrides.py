"""Overrides on the command line: Hydra's grammar, interpolations, unicode, nesting, values of every type."""

from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from ambient_ray.console.command import load
from ambient_ray.console.configuration import Configuration, validate

from .harness import Kind

KEYS = (
    "study", "seed", "trials", "hours", "dataset", "dataset.path", "dataset.n_train", "dataset.resolution", "backbone",
    "trial.rungs", "trial.rung_values", "training.betas", "training.lr", "space", "space.sigma_tn.high", "sampler",
    "sampler.seed", "tracking.uri", "output_dir", "enqueue", "evaluation.features", "confirm.rule", "preset", "search_space",
    "hydra.run.dir", "hydra.searchpath", "hydra", "hydra/job_logging", "nothing", "dataset.nothing", "dataset/x", "a.b.c",
    "", ".", "..", "dataset.", ".dataset", "dataset..path", "dataset@x", "dataset@:x", "@", "study@package", "__proto__",
    "n" * 300, "ключ", "a b", "0", "_target_", "backbone._target_", "x[0]", "trial.rungs.0", "trial.rungs[0]",
)  # fmt: skip
VALUES = (
    "", "null", "1", "-1", "0", "1e400", "nan", "inf", "-inf", "9" * 5000, "0x10", "true", "x", "a b", "'", '"', "'a", '"a"',
    "[", "]", "[]", "{", "}", "{}", "[1,2,3]", "[640,1280]", "[[f_mem],[f_mem]]", "{a:1}", "{a:{b:{c:1}}}", "{1:2}", "{null:1}",
    "${oc.env:HOME}", "${oc.env:NO_SUCH}", "${oc.env:NO_SUCH,x}", "${study}", "${nothing}", "${.}", "${..study}", "${", "$", "${}",
    "${a:b}", "${oc.decode:'['}", "${oc.create:{a:1}}", "${oc.select:x}", "${hydra:runtime.cwd}", "${now:%Y}", "${now:x}",
    "${oc.dict.keys:dataset}", "${output_dir}", "${eval:1}", "${python_version:}", "???", "1,2,3", "choice(1,2)", "range(3)",
    "glob(*)", "int(x)", "str([1])", "json_str({a:1})", "sort(3,1)", "extend_list(1)", "~/x", "~nobody_of_this_name/x", "../../x",
    "/etc/passwd", "a\nb", "a\0b", "\ud800", "\x1b[31m", "\u202e", "日本", "=", "==", "a=b", "%", "#", "\\", "\\\\", "\\'", "&a", "*a", "!!x",
    "[" * 40 + "]" * 40, "{a:" * 30 + "1" + "}" * 30, "(" * 50, "${study:" * 20, "x" * 20000, "[" + "1," * 2000 + "1]",
    "[" * 2000, "digits", "cifar10", "own", "tpe", "unet_small", "pkg://x", "file:///nowhere", "2001-01-01", ":", "a:b", "-",
)  # fmt: skip
VALID = (
    ("study=faces",), ("trials=3", "seed=4"), ("dataset.n_train=100",), ("+space.sigma_tn.high=2",), ("sampler=gp",),
    ("+preset=cifar10",), ("trial.rungs=[640,1280]",), ("training.lr=1e-3",), ("backbone=unet_small",), ("hours=1.5",),
)  # fmt: skip
FREE = st.text(st.characters(codec="utf-8"), max_size=30)


@dataclass(frozen=True)
class Overrides:
    """What stands on the command line."""

    words: tuple[str, ...]
    whole: bool

    def __repr__(self) -> str:
        return f"whole={self.whole} {[word[:300] for word in self.words]!r}"


@st.composite
def word(draw) -> str:
    way = draw(st.integers(0, 9))
    if way == 0:
        return draw(FREE)
    key = draw(st.sampled_from(KEYS))
    value = draw(FREE) if way == 1 else draw(st.sampled_from(VALUES))
    return f"{draw(st.sampled_from(['', '', '', '', '+', '++', '~', '~~', ' ']))}{key}{draw(st.sampled_from(['=', '=', '=', '=', '', '= ', ':', '=='])) if way > 7 else '='}{value}"


@st.composite
def command_lines(draw) -> Overrides:
    if draw(st.integers(0, 6)) == 0:
        return Overrides(draw(st.sampled_from(VALID)), True)
    return Overrides(tuple(draw(st.lists(word(), min_size=1, max_size=2))), False)


def write(case: Overrides, folder: Path) -> None:
    """Nothing: all of it is on the command line."""


def read(case: Overrides, folder: Path) -> Configuration:
    return validate(load("search", case.words))


def verify(case: Overrides, folder: Path, found: Configuration) -> None:
    assert found.study and found.folder.is_absolute() and "\0" not in str(found.folder)
    assert found.folder.parent == found.output_dir  # a study's name leads nowhere else


KIND = Kind(
    "overrides", command_lines(), write, read, verify, lambda case, folder: (), lambda case: case.whole,
    seconds=20.0,
)  # fmt: skip
