"""The tables hold the records' own numbers, every trial and every stop once."""

import re

from ambient_ray.reporting.report.measures import COPYING, described, fidelity_measures, measure_table, number
from ambient_ray.reporting.report.recall import recall
from ambient_ray.reporting.report.subjects import subjects
from ambient_ray.reporting.tables import confirmed_table, front_table, match_table, rival_table, trial_table
from ambient_ray.reporting.verdict import matches


def column(table, name, nth=0):
    found = [i for i, c in enumerate(table.columns) if c.name == name][nth]
    return [row[found] for row in table.rows]


def values(cells):
    """(mean, low, high) of each cell."""
    return [tuple(map(float, re.findall(r"-?\d+\.?\d*", cell))) for cell in cells]


def test_the_fronts_rows_are_its_candidates_with_both_intervals(stored):
    study = recall(stored())
    table = front_table(study.land, study.objectives, study.verdict.champion)
    assert column(table, "trial") == [str(c.trial.number) for c in study.land.front]
    for cells, key in ((column(table, "fd_tiny"), "fd_tiny"), (column(table, "f_mem"), "f_mem")):
        wanted = [[c.rung.scores[f"{key}{end}"] for end in ("", "_low", "_high")] for c in study.land.front]
        assert [[round(v, 2) for v in found] for found in values(cells)] == [[round(v, 2) for v in w] for w in wanted]
    (marked,) = table.marked
    assert study.land.front[marked] == study.verdict.champion
    unmarked = front_table(study.land, study.objectives, None)
    assert len(unmarked.columns) == len(table.columns) - 1 and not unmarked.marked


def test_every_trial_stands_once_with_its_end(stored):
    study = recall(stored())
    table = trial_table(study.trials, study.objectives)
    assert column(table, "trial") == [str(n) for n in range(11)]
    ended = column(table, "ended")
    assert ended[2] == "stopped" and ended[4] == "failed: the loss is not finite" and ended[10].endswith("memory")
    assert column(table, "rungs") == [str(len(t.rungs)) for t in study.trials]
    assert "of trial 1" in column(table, "configuration")[8] and column(table, "f_mem")[4] == "–"


def test_ddpms_stops_rivals_and_means(stored):
    study = recall(stored())
    stops = match_table(matches(study.land, study.objectives, 0.05), study.objectives, 0.05)
    assert column(stops, "DDPM stopped at") == ["1,000", "2,000", "4,000"]
    assert column(stops, "Ambient copies") == ["no difference", "less", "less"]
    assert column(rival_table(study.land, study.objectives), "trial") == ["3"]
    means = confirmed_table(study.verdict.confirmed, study.objectives, study.verdict.champion)
    ours = next(row for row in means.rows if row[1] == "1")
    assert ours[0] == "champion" and values([ours[5]])[0][0] == 0.115 and ours[6] == "1, 2; 1 failed"


def test_measures_stand_beside_their_null_and_useless_thresholds_are_left_out(stored):
    study = recall(stored())
    looked = [(s.name, s.shown) for s in subjects(study)]
    table = measure_table("x", COPYING, looked)
    rows = {row[0].split("`")[1]: row for row in table.rows}
    assert rows["f_mem"][-1] == "0.002" and rows["s_tau"][-1] == "0.001" and "s_tau_850" not in rows
    shown = looked[0][1]
    assert rows["f_mem"][1].startswith(number(shown.rung.scores["f_mem"]))
    quality = measure_table("x", fidelity_measures("fd_tiny"), looked)
    assert [row[0].split("`")[1] for row in quality.rows] == ["fd_tiny", "precision"]
    assert "larger is better" in quality.rows[1][0] and len(quality.columns) == 1 + len(looked)


def test_scores_are_put_into_words():
    assert described("f_mem").startswith("the share of samples") and described("fd_tiny").startswith("the Fréchet")
    assert described("mine") == "" and described("fd_tiny_inf").startswith("its limit")
    assert [number(x) for x in (0.1234, 12.345, 345.67, 1234.5, float("nan"))] == [
        "0.123",
        "12.35",
        "345.7",
        "1,234",
        "–",
    ]


def test_models_are_looked_at_once_by_their_typical_replica(stored):
    study = recall(stored())
    found = {s.name: s for s in subjects(study)}
    assert "champion, Ambient at matched fidelity" in found and "DDPM at matched fidelity" in found
    champion = found["champion, Ambient at matched fidelity"]
    assert champion.shown.trial.replica_of == 1 and "trained again as trial" in champion.where
    keys = [(s.original.trial.number, s.original.rung.rung) for s in found.values()]
    assert len(keys) == len(set(keys))
