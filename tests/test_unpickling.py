"""Nothing in the package unpickles what others can write, or runs code that it reads. Its source is asked."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "ambient_ray").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])

#: Modules whose every loading call unpickles or runs what it reads.
UNPICKLING = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "skops",
    "jsonpickle",
}
#: Calls that do, by their last two names, and what makes each of them safe: a keyword and its value.
CALLS = {
    ("torch", "load"): ("weights_only", True),
    ("np", "load"): ("allow_pickle", False),
    ("numpy", "load"): ("allow_pickle", False),
    ("yaml", "load"): ("Loader", "SafeLoader"),
    ("yaml", "load_all"): ("Loader", "SafeLoader"),
}
NEVER = {
    ("yaml", "unsafe_load"), ("yaml", "full_load"), ("pd", "read_pickle"), ("pandas", "read_pickle"),
    ("pytorch", "load_model"), ("sklearn", "load_model"), ("pyfunc", "load_model"), ("jit", "load"),
    ("package", "PackageImporter"), ("Tuner", "restore"), ("Trainer", "restore"), ("hub", "load"),
}  # fmt: skip
BUILTINS = {"eval", "exec", "__import__"}

#: (file, what) that stays, with its reason.
ALLOWED = {
    # The names of errors, to catch what weights-only loading raises.
    ("ambient_ray/evaluation/extractors/weights.py", "import pickle: only UnpicklingError"),
    # DINOv2's published code at a pinned commit, or the user's own clone (evaluation.repo=); weights by their hash.
    ("ambient_ray/evaluation/extractors/dinov2.py", "hub.load"),
}


def findings(text, name="x.py"):
    """{(file, what)}: each place where something could be unpickled or run."""
    found, tree = set(), ast.parse(text)
    safe = {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and any(map(_is_safe_loader, n.bases))}
    attributes = {
        (n.value.id, n.attr) for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in UNPICKLING:
            found.add((name, f"from {node.module} import"))
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in UNPICKLING:
                    used = {attr for module, attr in attributes if module == (alias.asname or alias.name)}
                    only = "UnpicklingError" if used == {"UnpicklingError"} else ", ".join(sorted(used)) or "nothing"
                    found.add(
                        (
                            name,
                            f"import {alias.name}: only {only}"
                            if only == "UnpicklingError"
                            else f"import {alias.name}",
                        )
                    )
            if any(alias.asname and alias.name in ("numpy", "torch", "yaml") for alias in node.names):
                found |= {(name, f"{a.name} as {a.asname}") for a in node.names if a.asname not in (None, "np")}
        if isinstance(node, ast.ImportFrom) and node.module in ("numpy", "torch", "yaml", "torch.hub", "torch.jit"):
            found |= {(name, f"from {node.module} import {a.name}") for a in node.names if "load" in a.name.lower()}
        if isinstance(node, ast.Call):
            found |= {(name, what) for what in _call(node, safe)}
    return found


def _name(node):
    return getattr(node, "attr", getattr(node, "id", None))


def _is_safe_loader(node):
    return _name(node) in ("SafeLoader", "CSafeLoader")


def _call(node, safe_loaders):
    function = node.func
    if isinstance(function, ast.Name) and function.id in BUILTINS:
        yield function.id
    if not isinstance(function, ast.Attribute):
        return
    owner = function.value
    names = (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", ""), function.attr)
    if names in NEVER:
        yield ".".join(names)
    if names in CALLS:
        keyword, wanted = CALLS[names]
        given = next((k.value for k in node.keywords if k.arg == keyword), None)
        value = getattr(given, "value", None) if isinstance(given, ast.Constant) else _name(given)
        if value != wanted and not (keyword == "Loader" and (_is_safe_loader(given) or value in safe_loaders)):
            yield ".".join(names)
    if any(k.arg == "trust_remote_code" and getattr(k.value, "value", None) is True for k in node.keywords):
        yield "trust_remote_code"
    if any(k.arg == "allow_pickle" and getattr(k.value, "value", None) is True for k in node.keywords):
        yield "allow_pickle"


def test_nothing_is_unpickled_but_what_is_listed():
    found = set()
    for path in SOURCES:
        found |= findings(path.read_text(), str(path.relative_to(ROOT)))
    assert found == ALLOWED


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\np.loads(b)",
        "from pickle import loads",
        "from cloudpickle import load",
        "import joblib\njoblib.load(p)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p)",
        "np.load(p, allow_pickle=True)",
        "numpy.load(p)",
        "from torch import load",
        "import torch as t\nt.load(p)",
        "yaml.load(f)",
        "yaml.load(f, Loader=yaml.UnsafeLoader)",
        "class L(yaml.Loader):\n    pass\nyaml.load(f, Loader=L)",
        "yaml.unsafe_load(f)",
        "mlflow.pytorch.load_model(u)",
        "mlflow.pyfunc.load_model(u)",
        "tune.Tuner.restore(p)",
        "pd.read_pickle(p)",
        "torch.hub.load(r, 'm')",
        "eval(text)",
        "DiffusionPipeline.from_pretrained(p, trust_remote_code=True)",
    ],
)
def test_a_planted_call_is_found(planted):
    assert findings(planted)


@pytest.mark.parametrize(
    "safe",
    [
        "torch.load(p, weights_only=True)",
        "np.load(p, allow_pickle=False)",
        "yaml.safe_load(f)",
        "yaml.load(f, Loader=yaml.SafeLoader)",
        "class L(yaml.SafeLoader):\n    pass\nyaml.load(f, Loader=L)",
        "model.eval()",
        "json.load(f)",
    ],
)
def test_what_is_safe_is_not(safe):
    assert findings(safe) == set()


def test_a_studys_storage_never_unpickles(tmp_path):
    """Optuna's journal unpickles the snapshots of its Redis backend alone; a file has none, and no URL opens Redis."""
    from optuna.storages.journal import JournalFileBackend
    from optuna.storages.journal._base import BaseJournalSnapshot

    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study, StudyStorageError

    assert not issubclass(JournalFileBackend, BaseJournalSnapshot)
    for url in ("redis://127.0.0.1:9/0", "journal+redis://127.0.0.1:9/0"):
        with pytest.raises(StudyStorageError, match="cannot be opened"):
            Study("faces", url, Objectives("fd", "f_mem"))


def test_a_journal_with_a_pickle_in_it_is_refused_unread(tmp_path):
    """Each line is JSON; a pickle planted in the file is no line of it, and is not run."""
    import pickle

    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study, StudyStorageError

    class Bomb:
        def __reduce__(self):
            return Path(tmp_path / "ran").write_text, ("it ran",)

    (tmp_path / "study.journal").write_bytes(pickle.dumps(Bomb()) + b"\n" + b'{"op_code": 0}\n')
    with pytest.raises(StudyStorageError):
        Study("faces", f"journal:{tmp_path}/study.journal", Objectives("fd", "f_mem"))
    assert not (tmp_path / "ran").exists()
