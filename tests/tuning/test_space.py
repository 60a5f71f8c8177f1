"""A space that cannot be searched is refused in one sentence that names the file, the key and the way out."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ambient_ray.tuning.emm import MemorizedSize, memorized_sizes
from ambient_ray.tuning.records import RungRecord, TrialRecord
from ambient_ray.tuning.space import Choice, Range, SearchSpaceError, Space, load_space

SETTINGS = frozenset({"sigma_tn", "noisy_ratio", "mixing", "lr", "dropout", "n_train", "weighting"})
MIXING = {"choices": ["set_split", "sigma_split", "image_split"]}


def write(folder, **content):
    (folder / "mine.yaml").write_text(yaml.safe_dump(content))
    return load_space("mine", settings=SETTINGS, folder=folder)


def test_the_ambient_space_is_what_the_readme_says():
    space = load_space("ambient", settings=SETTINGS)
    assert space.parameters == {
        "sigma_tn": Range(0.1, 4.0, log=True, prior=0.5),
        "noisy_ratio": Range(0.1, 0.9, prior=0.5),
    }
    assert space.fixed == {"mixing": "set_split"}


def test_a_folder_of_ones_own_comes_first_and_a_path_works(tmp_path):
    space = write(
        tmp_path,
        parameters={"lr": {"low": 1e-4, "high": 1e-2, "log": True}, "mixing": {"choices": ["a", "b"]}},
    )
    assert space.parameters == {"lr": Range(1e-4, 1e-2, log=True), "mixing": Choice(("a", "b"))}
    assert load_space(str(tmp_path / "mine.yaml"), settings=SETTINGS) == space


def test_a_range_can_be_changed_from_the_command_line():
    space = load_space("ambient", settings=SETTINGS, overrides={"sigma_tn": {"high": 2}})
    assert space.parameters["sigma_tn"] == Range(0.1, 2.0, log=True, prior=0.5)
    beyond = load_space("ambient", settings=SETTINGS, overrides={"sigma_tn": {"low": 1}})
    assert beyond.parameters["sigma_tn"] == Range(1.0, 4.0, log=True), "the file's belief is left behind"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"parameters": {"sigma_tn": {"low": 2, "high": 1}}}, "sigma_tn is reversed"),
        ({"parameters": {"sigma_tn": {"low": -1, "high": 1}}}, "sigma_tn=-1 is out of range"),
        ({"parameters": {"noisy_ratio": {"low": 0.1, "high": 1.5}}}, "noisy_ratio=1.5 is out of range"),
        ({"parameters": {"noisy_ratio": {"choices": [0.5, 2.0]}}}, "noisy_ratio=2.0 is out of range"),
        ({"parameters": {"sigma_tn": {"low": 0.0, "high": 1, "log": True}}}, "low must be above 0"),
        ({"parameters": {"sigma": {"low": 0.1, "high": 1}}}, "unknown parameter 'sigma'"),
        ({"parameters": {"sigma_tn": {"low": "a", "high": 1}}}, "must be two numbers"),
        ({"parameters": {"sigma_tn": {"min": 1}}}, "must be {low, high}"),
        ({"parameters": {"sigma_tn": 3}}, "must be {low, high}"),
        ({"parameters": {"mixing": {"choices": []}}}, "must be a list"),
        ({"params": {}}, "unknown key 'params'"),
        ({"baselines": [{"sgima_tn": 0}]}, "unknown parameter 'sgima_tn'; did you mean sigma_tn\\?"),
        ({"parameters": ["lr"]}, "parameters must be {name: value, ...}"),
        ({"baselines": {"sigma_tn": 0}}, "baselines must be a list"),
        ({"parameters": {"lr": {"low": 1, "high": 2}}, "fixed": {"lr": 1}}, "lr is searched and fixed at once"),
        ({"parameters": {"n_train": {"low": 3.5, "high": 9, "integer": True}}}, "whole number, so its ends"),
        ({"parameters": {"n_train": {"low": 1, "high": 9}}}, "n_train=1 is out of range"),
        ({"parameters": {"lr": {"low": 1, "high": 2, "prior": 3}}}, "prior of lr must lie within its range, 1 to 2, g"),
        ({"parameters": {"lr": {"low": 1, "high": 2, "prior": "x"}}}, "prior of lr must lie within its range"),
        (
            {"parameters": {"n_train": {"low": 3, "high": 9, "integer": True, "prior": 4.5}}},
            "prior of n_train must lie within its range, 3 to 9 and a whole number, got 4.5",
        ),
        ({"parameters": {"mixing": MIXING | {"prior": "half"}}}, "prior of mixing must be one of its choices, set_s"),
        ({"parameters": {"lr": {"low": 1, "high": 2, "prior": 1, "spread": 0}}}, "spread of lr is a share"),
        ({"parameters": {"lr": {"low": 1, "high": 2, "prior": 1, "spread": 1.1}}}, "above 0 and at most 1, got 1.1"),
        ({"parameters": {"lr": {"low": 1, "high": 2, "spread": 0.1}}}, "lr has a spread but no prior"),
        ({"parameters": {"lr": {"low": 1, "high": 2, "when": "mixing"}}}, "lr.when must be {parameter: value"),
        ({"parameters": {"lr": {"low": 1, "high": 2, "when": {"sigma_tn": 0}}}}, "lr.when names 'sigma_tn', which"),
        (
            {
                "parameters": {
                    "sigma_tn": {"low": 0.1, "high": 1},
                    "lr": {"low": 1, "high": 2, "when": {"sigma_tn": 0.5}},
                }
            },
            "lr.when names sigma_tn, which has a range; only one with choices decides",
        ),
        (
            {"parameters": {"mixing": MIXING, "lr": {"low": 1, "high": 2, "when": {"mixing": ["set_split", "half"]}}}},
            "lr.when: mixing must be one of set_split, sigma_split, image_split, got 'half'",
        ),
        (
            {
                "parameters": {
                    "mixing": MIXING | {"when": {"weighting": "paper"}},
                    "weighting": {"choices": ["paper"], "when": {"mixing": "set_split"}},
                }
            },
            "mixing, weighting exist only under each other",
        ),
        ({"parameters": {"lr": {"choices": [1], "when": {"lr": 1}}}}, "lr exist only under each other"),
    ],
)
def test_impossible_spaces_are_refused(tmp_path, content, message):
    with pytest.raises(SearchSpaceError, match=message):
        write(tmp_path, **content)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(SearchSpaceError, match=r"no such search space; there are .*ambient"):
        load_space("ambeint", settings=SETTINGS)
    with pytest.raises(SearchSpaceError, match="there is no such folder"):
        load_space("ambient", settings=SETTINGS, folder=tmp_path / "nowhere")
    with pytest.raises(SearchSpaceError, match="no such file"):
        load_space("./nowhere.yaml", settings=SETTINGS)
    with pytest.raises(SearchSpaceError, match="has no parameter 'lr'"):
        load_space("ambient", settings=SETTINGS, overrides={"lr": {"high": 1}})


def test_a_file_that_is_no_yaml_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: [")
    with pytest.raises(SearchSpaceError, match="not readable as YAML"):
        load_space("mine", settings=SETTINGS, folder=tmp_path)


def conditional(folder):
    return write(
        folder,
        parameters={
            "noisy_ratio": {"low": 0.1, "high": 0.9, "when": {"mixing": ["set_split", "image_split"]}},
            "lr": {"low": 0.1, "high": 0.9, "when": {"weighting": "paper"}},
            "weighting": {"choices": ["paper", "compensated"], "when": {"mixing": "set_split"}},
            "mixing": MIXING,
        },
    )


def test_a_parameter_exists_only_under_its_parents_values(tmp_path):
    space = conditional(tmp_path)
    assert space.active("mixing", {})
    assert space.active("noisy_ratio", {"mixing": "set_split"}) and space.active(
        "noisy_ratio", {"mixing": "image_split"}
    )
    assert not space.active("noisy_ratio", {"mixing": "sigma_split"})
    assert not space.active("noisy_ratio", {}), "a parent that is not chosen is not active"
    assert space.active("lr", {"mixing": "set_split", "weighting": "paper"})
    assert not space.active("lr", {"mixing": "sigma_split", "weighting": "paper"}), "nor is a grandchild without it"


@given(st.permutations(["noisy_ratio", "lr", "weighting", "mixing"]))
def test_parents_come_before_their_children_however_the_file_has_them(names):
    conditions = {"noisy_ratio": {"mixing": ("a",)}, "lr": {"weighting": (1,)}, "weighting": {"mixing": ("a", "b")}}
    choices = {"mixing": Choice(("a", "b")), "weighting": Choice((1, 2))}
    space = Space("any", {name: choices.get(name, Range(0, 1)) for name in names}, conditions=conditions)
    assert sorted(space.order) == sorted(names)
    for child, parents in conditions.items():
        assert all(space.order.index(parent) < space.order.index(child) for parent in parents)


def test_a_space_is_known_by_what_it_searches_and_not_by_beliefs(tmp_path):
    plain = write(tmp_path, parameters={"lr": {"low": 0.1, "high": 1}, "mixing": MIXING})
    # What studies have stored since before there were conditions and beliefs.
    assert json.loads(json.dumps(plain.describe())) == {
        "parameters": {
            "lr": {"low": 0.1, "high": 1.0, "log": False, "integer": False},
            "mixing": {"choices": ["set_split", "sigma_split", "image_split"]},
        },
        "fixed": {},
        "baselines": [],
    }
    believing = {
        "lr": {"low": 0.1, "high": 1, "prior": 0.5, "spread": 0.3},
        "mixing": MIXING | {"prior": "set_split"},
    }
    assert write(tmp_path, parameters=believing).describe() == plain.describe()
    believing["lr"]["when"] = {"mixing": "set_split"}
    described = write(tmp_path, parameters=believing).describe()
    assert json.loads(json.dumps(described))["conditions"] == {"lr": {"mixing": ["set_split"]}}


def test_a_belief_can_be_stated_on_the_command_line(tmp_path):
    conditional(tmp_path)
    changes = {"noisy_ratio": {"prior": 0.5, "spread": 0.2}, "mixing": {"prior": "sigma_split"}}
    space = load_space("mine", settings=SETTINGS, folder=tmp_path, overrides=changes)
    assert space.parameters["noisy_ratio"] == Range(0.1, 0.9, prior=0.5, spread=0.2)
    assert space.parameters["mixing"] == Choice(tuple(MIXING["choices"]), prior="sigma_split")
    assert space.conditions["noisy_ratio"] == {"mixing": ("set_split", "image_split")}
    for change, message in (
        ({"noisy_ratio": {"prior": 0.95}}, "prior of noisy_ratio must lie within its range, 0.1 to 0.9, got 0.95"),
        ({"noisy_ratio": {"piror": 0.5}}, r"space.noisy_ratio=.*parts are choices, low"),
        ({"noisy_ratio": 0.5}, r"space.noisy_ratio=0.5: say which part changes"),
        ({"nosy_ratio": {"high": 1}}, "has no parameter 'nosy_ratio'; did you mean noisy_ratio\\?"),
    ):
        with pytest.raises(SearchSpaceError, match=message):
            load_space("mine", settings=SETTINGS, folder=tmp_path, overrides=change)


def test_what_belongs_to_a_range_or_to_choices():
    assert Range(0, 1).contains(0) and Range(0, 1).contains(1.0) and not Range(0, 1).contains(1.1)
    assert not Range(0, 1).contains(True) and not Range(0, 1).contains("0.5") and not Range(0, 1).contains(float("nan"))
    assert Range(1, 5, integer=True).contains(2.0) and not Range(1, 5, integer=True).contains(2.5)
    assert Choice((1, 2)).contains(1.0) and not Choice((1, 2)).contains(True) and Choice((False, True)).contains(True)


def test_memorized_sizes_brackets_the_size_at_which_copying_ends():
    def trial(number, n, sigma_tn, *copied):
        rungs = tuple(RungRecord(i, i, {"f_mem": share}, {}, "") for i, share in enumerate(copied))
        return TrialRecord(number, "rival", {"n_train": n, "sigma_tn": sigma_tn}, "finished", rungs)

    trials = [
        trial(0, 50, 0.0, 0.2, 0.99),  # the last rung counts
        trial(1, 100, 0.0, 0.95),
        trial(2, 100, 0.0, 0.89),  # with its like: .92
        trial(3, 200, 0.0, 0.95, 0.5),
        trial(4, 400, 0.0, 0.1),
        trial(5, 50, 0.5, 0.4),
        trial(6, 50, 1.0, 0.9),
        trial(7, 30, 0.0),
        TrialRecord(8, "ddpm", {"sigma_tn": 0.0}, "finished", trial(8, 1, 0.0, 1.0).rungs),
    ]
    found = memorized_sizes(trials)
    assert found == [MemorizedSize(0.0, 100, 200), MemorizedSize(0.5, None, 50), MemorizedSize(1.0, 50, None)]
    assert [str(size) for size in found] == ["DDPM: 100 to 200", "sigma_tn 0.5: below 50", "sigma_tn 1: at least 50"]


def test_a_belief_may_be_what_is_configured(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "parameters:\n"
        "  lr: {low: 1.0e-4, high: 1.0e-2, log: true, prior: configured}\n"
        "  weight_decay: {low: 1.0e-6, high: 1.0e-2, log: true, prior: configured, spread: 0.1}\n"
        "  weighting: {choices: [paper, compensated], prior: configured}\n"
    )
    names = frozenset({"lr", "weight_decay", "weighting"})
    known = load_space(str(path), settings=names, configured={"lr": 3e-3, "weight_decay": 0.0, "weighting": "paper"})
    assert {key: p.prior for key, p in known.parameters.items()} == {
        "lr": 3e-3, "weight_decay": 1e-6, "weighting": "paper",
    }  # fmt: skip
    unknown = load_space(str(path), settings=names, configured={"weighting": "other"})
    assert all(p.prior is None for p in unknown.parameters.values())


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "more than 20,000 values, aliases written out"),
        ("parameters: &a {lr: *a}", "an alias stands inside of what it names"),
        ("{a: " * 3000, "nested more than 40 deep"),
        ("parameters: {lr: {low: 0.1, high: 1}, lr: {low: 0.1, high: 2}}", "names 'lr' twice, line 1"),
        ("fixed: {lr: 2001-01-01}", "could not determine a constructor"),
        ("parameters: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("a: !!int x", "not readable as YAML"),
        ("#" + "x" * 2**20, "more than 1,048,576 characters"),
        ("1: 2\nb: 3\n", "unknown key 1; known are"),
        ("baselines: " + "x" * 100_000, r"must be a list of configurations, got 'x+\.\.\.$"),
        ("parameters: {lr: {low: 0, high: 1" + "0" * 400 + "}}", "the range of lr must be two numbers"),
        ("parameters: {weighting: {choices: [.nan]}}", "must be a list of numbers or words"),
        ("parameters: {p_mean: {low: -1.7e+308, high: 1.7e+308}}", "wider than a number can be"),
        ("parameters: {lr: {low: 0.1, high: 1, log: 'no'}}", "log and integer of lr must be true or false"),
        ("parameters: {lr: {low: x, high: 1, prior: configured}}", "the range of lr must be two numbers"),
        ("parameters: {lr: {choices: null, prior: configured}}", "must be a list of numbers or words"),
    ],
)
def test_hostile_files_are_one_short_sentence(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(SearchSpaceError, match=message) as told:
        load_space("mine", settings=SETTINGS | {"p_mean"}, folder=tmp_path, configured={"lr": 0.5})
    assert "mine" in str(told.value) and len(str(told.value)) < 1000


def test_a_file_in_another_encoding(tmp_path):
    (tmp_path / "mine.yaml").write_bytes("# größe\n".encode("latin1"))
    with pytest.raises(SearchSpaceError, match="not readable as YAML"):
        load_space("mine", settings=SETTINGS, folder=tmp_path)
