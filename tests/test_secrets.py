"""No secret in any committed file, and none of a user's in what a search prints, stores or tells MLflow."""

import io
import json
import re
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

ROOT = Path(__file__).parent.parent
#: What secrets look like. The first are keys by their form; the last are passwords by where they stand.
PATTERNS = {
    "AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}\b|\"private_key_id\"\s*:",
    "GitHub token": r"\bgh[pousr]_[0-9A-Za-z]{36}\b|\bgithub_pat_[0-9A-Za-z_]{40,}",
    "Slack or Hugging Face token": r"\bxox[abprs]-[0-9A-Za-z-]{10,}|\bhf_[0-9A-Za-z]{30,}\b",
    "JSON web token": r"\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.",
    "password in an address": r"[a-z0-9+]+://[^\s/:@'\"{}$<]+:(?P<value>[^\s/@'\"{}$<]+)@",
    "password as a value": r"(?i)(?:password|passwd|secret|token|api_?key)[A-Z_]*['\"]?\s*[:=]\s*['\"]?"
    r"(?P<value>[A-Za-z0-9+/_-]{20,})",
}
#: Values in places where passwords stand that are none, each with its reason.
NONE = (
    r"\*\*\*",  # as `redacted` shows it
    r"(?:[A-Za-z_]+\.)*[A-Za-z_]+$",  # a name in a program, not a value
    r"[A-Z0-9_/-]+$",  # the name of a variable
    r"[A-Za-z-]+$",  # words, as tests invent them: of twenty random characters one is a digit
)
#: Files whose business is passwords that do not exist.
INVENTED = {"tests/test_redaction.py", "tests/test_secrets.py"}


def secrets_in(text):
    """(kind, what stands there) of all that looks like a secret."""
    found = []
    for kind, pattern in PATTERNS.items():
        for match in re.finditer(pattern, text):
            value = match.groupdict().get("value")
            if value is None or not any(re.match(none, value) for none in NONE):
                found.append((kind, match.group()))
    return found


def committed():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a checkout of git")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_committed_file_holds_a_secret():
    found = {}
    for name in committed():
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        bad = [one for one in secrets_in(text) if not one[1].startswith("sha256:")] if name not in INVENTED else []
        # Tests invent users of servers that they start themselves; these are short and are refused elsewhere.
        if bad := [one for one in bad if not (name.startswith("tests/") and one[0] == "password in an address")]:
            found[name] = bad
    assert found == {}


@pytest.mark.parametrize(
    "planted",
    [
        "aws_access_key_id = AKIA" + "IOSFODNN7EXAMPLE",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "MLFLOW_TRACKING_PASSWORD=s3cr3t" + "-of-twenty-letters-4",
        'POSTGRES_PASSWORD: "hunter2hunter2' + 'hunter2hunter2"',
        "storage: postgresql://me:hun" + "ter2@db/studies",
        "ghp_" + "0123456789abcdefghij0123456789abcdef",
        "token = '" + "0f" * 32 + "'",
    ],
)
def test_a_planted_secret_is_found(planted):
    assert secrets_in(planted)


# -- of a user ------------------------------------------------------------------------------------------------

SECRET = "Zq7correcthorse"
STORAGE = f"postgresql+psycopg2://studies:{SECRET}@db.example.org/studies"
TRACKING = f"http://searches:{SECRET}@mlflow.example.org:5000"
ARGV = ["search.py", "study=faces", f"storage={STORAGE}", f"tracking.uri={TRACKING}", "trials=3"]


def test_commands_that_are_printed_and_recorded_have_none(monkeypatch):
    from ambient_ray.console.retrain import command

    said = command(ARGV)
    assert SECRET not in said and "storage=postgresql+psycopg2://studies:***@db.example.org/studies" in said


def test_what_is_recorded_of_a_search_has_none(tmp_path, monkeypatch):
    """Events as they wait in the spool and go to MLflow, with the whole configuration as parameters."""
    from types import SimpleNamespace

    from ambient_ray.console import recording
    from ambient_ray.console.command import load
    from ambient_ray.console.configuration import validate
    from ambient_ray.data import load_images, split
    from ambient_ray.tracking.labels import flat_params

    config = validate(load("search", [*ARGV[1:], f"output_dir={tmp_path}"]))
    images = load_images("digits")
    told = {}
    recorder = SimpleNamespace(start=lambda study, params, **rest: told.update(params=params, **rest))
    prepared = SimpleNamespace(
        config=config, images=images, subsets=split(images, 20, seed=0),
        space=SimpleNamespace(order=[], conditions={}), settings=SimpleNamespace(backbone={"_target_": "x"}),
        objectives=SimpleNamespace(fidelity="fd", memorization="f_mem"), study=SimpleNamespace(trials=list),
    )  # fmt: skip
    recording.start_recording(prepared, recorder)
    flat = flat_params(told["params"])
    assert SECRET not in json.dumps(flat)
    assert flat["storage"].startswith("postgresql+psycopg2://studies:***@")
    assert flat["tracking.uri"] == "http://searches:***@mlflow.example.org:5000"


def test_the_closing_words_have_none():
    from ambient_ray.console.closing import load_lines, print_closing
    from ambient_ray.reporting.verdict import conclude
    from ambient_ray.tuning.champion import Rule
    from ambient_ray.tuning.records import Landscape, Objectives

    objectives, page = Objectives("fd_x", "f_mem"), io.StringIO()
    land = Landscape.of([], objectives, None)
    print_closing(
        Console(file=page, width=200), land, objectives, conclude(land, [], objectives, Rule("matched", 0.05, None)),
        tolerance=0.05, delta=1.0, tracking_uri=TRACKING, model="faces", registration=None, figure=None,
        output_dir=Path("/nowhere"),
    )  # fmt: skip
    assert "mlflow ui --backend-store-uri http://searches:***@" in page.getvalue()
    assert SECRET not in page.getvalue() + load_lines(TRACKING, "faces")


@pytest.mark.parametrize(
    "overrides",
    [
        (f"tracking.uri=ftp://searches:{SECRET}@mlflow.example.org",),
        (f"tracking.uri=http://searches:{SECRET}@127.0.0.1:9",),
        (f"tracking.uri=postgresql://searches:{SECRET}@127.0.0.1:9/mlflow",),
        (f"trial.workers=http://a:{SECRET}@b",),
    ],
)
def test_a_refusal_is_a_sentence_without_it(tmp_path, overrides, capsys):
    """Bad input in process, as the command ends it: exit code 2 and one line."""
    from ambient_ray.console.command import load
    from ambient_ray.console.exits import guarded
    from ambient_ray.search import run

    code = guarded(lambda: run(load("search", ["dataset.n_train=20", f"output_dir={tmp_path}", *overrides])))
    said = capsys.readouterr()
    assert code == 2 and said.err.startswith("error: "), said
    assert SECRET not in said.out + said.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text(errors="ignore")]


def test_a_study_that_cannot_be_opened_is_named_without_it():
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study, StudyStorageError

    for url in (f"postgresql+nodriver://studies:{SECRET}@db.example.org/studies", f"nonsense://a:{SECRET}@b"):
        with pytest.raises(StudyStorageError, match=r"studies:\*\*\*@|a:\*\*\*@") as caught:
            Study("faces", url, Objectives("fd", "f_mem"))
        assert SECRET not in str(caught.value)
