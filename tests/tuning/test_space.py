"""A space that cannot be searched is refused in one sentence that names the file, the key and the way out."""

import pytest
import yaml

from ambient_ray.tuning.space import Choice, Range, SearchSpaceError, load_space, shipped_spaces

SETTINGS = frozenset({"sigma_tn", "noisy_ratio", "mixing", "lr", "dropout"})


def write(folder, **content):
    (folder / "mine.yaml").write_text(yaml.safe_dump(content))
    return load_space("mine", settings=SETTINGS, folder=folder)


def test_every_space_that_ships_loads_and_has_ddpm_as_its_first_baseline():
    names = [path.stem for path in shipped_spaces().glob("*.yaml")]
    assert "ambient" in names
    for name in names:
        assert load_space(name, settings=SETTINGS).baselines[0] == {"sigma_tn": 0.0}


def test_the_ambient_space_is_what_the_readme_says():
    space = load_space("ambient", settings=SETTINGS)
    assert space.parameters == {"sigma_tn": Range(0.1, 4.0, log=True), "noisy_ratio": Range(0.1, 0.9)}
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
    assert space.parameters["sigma_tn"] == Range(0.1, 2.0, log=True)


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
        ({"baselines": [{"sgima_tn": 0}]}, "unknown parameter 'sgima_tn'"),
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
