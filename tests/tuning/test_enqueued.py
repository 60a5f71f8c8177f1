"""Points to run first: what the file says is what is run, and what cannot be run is one sentence with its place."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ambient_ray.errors import UserError
from ambient_ray.tuning.enqueued import EnqueuedPointsError, load_points
from ambient_ray.tuning.space import Choice, Range, Space

SPACE = Space(
    "mine",
    {
        "noisy_ratio": Range(0.1, 0.9),
        "mixing": Choice(("set_split", "sigma_split")),
        "lr": Range(1e-5, 1e-2, log=True),
        "n_train": Range(30, 1000, log=True, integer=True),
        "flip": Choice((False, True)),
        "sigma_tn": Choice((0.0, 0.5, 2)),
        "noise_draws": Choice((1, "inf")),
    },
    conditions={"noisy_ratio": {"mixing": ("set_split",)}},
)
POINTS = [
    {"mixing": "set_split", "noisy_ratio": 0.3, "lr": 0.001, "n_train": 100, "flip": True, "sigma_tn": 0.5},
    {"sigma_tn": 2, "noise_draws": "inf"},
    {"mixing": "sigma_split", "flip": False, "noise_draws": 1},
]


def as_csv(points):
    names = sorted({name for point in points for name in point})
    return "\n".join([",".join(names), *(",".join(str(point.get(name, "")) for name in names) for point in points)])


@pytest.mark.parametrize(
    ("ending", "write"), [("yaml", yaml.safe_dump), ("yml", yaml.safe_dump), ("json", json.dumps), ("csv", as_csv)]
)
def test_every_format_gives_the_same_points(tmp_path, ending, write):
    path = tmp_path / f"points.{ending}"
    path.write_text(write(POINTS))
    found = load_points(path, SPACE)
    assert found == POINTS
    assert [[type(v) for v in point.values()] for point in found] == [
        [type(point[name]) for name in SPACE.order if name in point] for point in POINTS
    ]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"lr": st.floats(1e-5, 1e-2)},
            optional={"n_train": st.integers(30, 1000), "flip": st.booleans(), "sigma_tn": st.sampled_from([0.0, 2])},
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_table_keeps_every_value(tmp_path_factory, points):
    path = tmp_path_factory.mktemp("points") / "points.csv"
    path.write_text(as_csv(points))
    assert load_points(path, SPACE) == points


def test_what_spreadsheets_and_yaml_do_to_values_is_understood(tmp_path):
    path = tmp_path / "points.csv"
    path.write_bytes(b"\xef\xbb\xbflr, flip ,sigma_tn,n_train\r\n1e-3,TRUE,2.0,100.0\r\n,,,\r\n")
    assert load_points(path, SPACE) == [{"lr": 1e-3, "flip": True, "sigma_tn": 2, "n_train": 100}]
    path = tmp_path / "points.yaml"
    path.write_text("- {lr: 1e-3}")  # a word, to YAML 1.1
    assert load_points(path, SPACE) == [{"lr": 1e-3}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "- {lr: 1.0e-3}\n- {sigma: 1}",
            "point 2: sigma is an unknown parameter; did you mean sigma_tn\\? it searches flip",
        ),
        ("- {dropout: 0.1}", "point 1: dropout is a setting that this space does not search; it searches flip, lr"),
        ("- {lr: 1}", "point 1: lr must be 1e-05 to 0.01, got 1"),
        ("- {lr: fast}", "point 1: lr must be 1e-05 to 0.01, got 'fast'"),
        ("- {lr: .nan}", "point 1: lr must be 1e-05 to 0.01, got nan"),
        ("- {n_train: 50.5}", "n_train must be 30 to 1000, whole, got 50.5"),
        ("- {mixing: half}", "mixing must be one of set_split, sigma_split, got 'half'"),
        ("- {flip: 1}", "flip must be one of False, True, got 1"),
        ("- {noisy_ratio: 0.5}", "noisy_ratio exists only under some values of mixing, so the point must set mixing"),
        (
            "- {noisy_ratio: 0.5, mixing: sigma_split}",
            "noisy_ratio does not exist here: it needs mixing=set_split and the point has mixing=sigma_split",
        ),
        ("", "the file holds no point"),
        ("[]", "the file holds no point"),
        ("- {}", "point 1: a point is {parameter: value} with at least one of them"),
        ("- 3", "point 1: a point is {parameter: value}"),
        ("lr: 0.1", "expected a list of points"),
        ("- {lr: ", "not readable as YAML"),
    ],
)
def test_a_file_that_cannot_be_run_is_one_sentence_that_names_the_place(tmp_path, content, message):
    path = tmp_path / "points.yaml"
    path.write_text(content)
    with pytest.raises(EnqueuedPointsError, match=message) as caught:
        load_points(path, SPACE, {"dropout", "lr"})
    assert isinstance(caught.value, UserError)
    assert str(caught.value).startswith(f"enqueue={path}") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("points.csv", b"", "the file holds no point"),
        ("points.csv", b"lr,flip\n", "the file holds no point"),
        ("points.csv", b"lr,lr\n1e-3,1e-3", "must name each column once, got lr,lr"),
        ("points.csv", b"lr,flip\n1e-3", "point 1: the line has 1 cells and the header 2"),
        ("points.csv", b"\xff\xfe\x00", "not readable as CSV"),
        ("points.json", b"[{", "not readable as JSON"),
        ("points.json", b" ", "the file holds no point"),
        ("points.txt", b"lr", "must end in .yaml, .yml, .json, .csv"),
    ],
)
def test_files_of_other_kinds(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EnqueuedPointsError, match=message):
        load_points(tmp_path / name, SPACE)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EnqueuedPointsError, match="cannot be read: No such file"):
        load_points(tmp_path / "points.yaml", SPACE)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("points.json", "[" * 100_000, "not readable as JSON"),
        ("points.yaml", "- " * 3000, "not readable as YAML: nested more than 40 deep"),
        ("points.yaml", "- {lr: 0.1, lr: 0.2}", "names 'lr' twice"),
        ("points.json", '[{"lr": 1' + "0" * 400 + "}]", "lr must be 1e-05 to 0.01, got 10+\\.\\.\\.$"),
        ("points.csv", "x" * 200_000 + ",y\n1,2\n", "not readable as CSV"),
    ],
)
def test_hostile_files_are_one_short_sentence(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(EnqueuedPointsError, match=message) as told:
        load_points(tmp_path / name, SPACE)
    assert name in str(told.value) and len(str(told.value).replace(str(tmp_path), "")) < 1000
