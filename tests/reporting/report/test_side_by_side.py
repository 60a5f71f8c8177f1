"""Two studies side by side: what differs is named, and scores meet only where they compare."""

import re
from dataclasses import replace

from PIL import Image

from ambient_ray.reporting.report.document import Figure, Notice
from ambient_ray.reporting.report.recall import recall
from ambient_ray.reporting.report.side_by_side import champions_sentence, differences, incomparable, two_studies
from ambient_ray.reporting.report.web import write_page
from ambient_ray.reporting.tables import Table
from ambient_ray.tuning.pareto import hypervolume


def other_facts(study, **changed):
    """The study, scored in another way."""

    def rungs(trial):
        return tuple(replace(r, facts={**r.facts, **changed}) for r in trial.rungs)

    return replace(study, trials=tuple(replace(t, rungs=rungs(t)) for t in study.trials))


def blocks(document, kind):
    every = [*document.opening, *(b for s in document.sections for b in s.blocks)]
    return [b for b in every if isinstance(b, kind)]


def test_a_study_beside_its_twin_differs_in_nothing_and_shows_no_difference(stored):
    a, b = recall(stored()), recall(replace(stored(), name="twin"))
    assert incomparable(a, b) == () and differences(a, b).rows == ()
    assert "no evidence of a difference in copying (the 95 % intervals overlap" in champions_sentence(a, b)
    assert "Not confirmed" not in champions_sentence(a, b)


def test_comparable_studies_meet_in_one_plane_under_one_bound(stored):
    worse = [t for t in stored().trials if t.number not in (1, 8, 9, 10)]
    a, b = recall(stored()), recall(replace(stored(worse, config={"seed": 7}), name="plain"))
    document = two_studies(a, b, now=1.7e9)
    (figure,) = blocks(document, Figure)
    assert figure.picture.startswith(b"\x89PNG") and not blocks(document, Notice)
    assert "that of faces copies less, and its fidelity is not shown to be worse" in champions_sentence(a, b)
    assert ("`seed`", "0", "7") in differences(a, b).rows
    page = write_page(document)
    limit = max(a.land.reference, b.land.reference)
    for study in (a, b):
        assert f"{hypervolume([c.point for c in study.land.candidates], limit):.4g}" in page
        assert re.sub("'", "&#x27;", study.verdict.sentence) in page
    assert "<iframe" not in page and "somebody" not in page


def test_scores_taken_in_other_ways_are_kept_apart_and_the_reason_is_given(stored):
    a, b = recall(stored()), recall(replace(other_facts(stored(), n=5000, reference="full"), name="big"))
    assert set(incomparable(a, b)) == {
        "n is 500 in one and 5000 in the other", "reference is heldout in one and full in the other"
    }  # fmt: skip
    document = two_studies(a, b)
    assert not blocks(document, Figure)
    assert document.opening[0].title == "The scores of these two studies do not compare."
    assert sum("Pareto front" in t.caption for t in blocks(document, Table)) == 2


def test_other_objectives_and_an_empty_study_do_not_compare(stored):
    tags = {**stored().tags, "ambient_ray.objectives": '["fd_tiny", "s_tau"]'}
    assert incomparable(recall(stored()), recall(stored(tags=tags)))[0].startswith(
        "the objectives are fd_tiny and f_mem"
    )
    empty = recall(replace(stored([], status="RUNNING", ended=None), name="new"))
    assert incomparable(recall(stored()), empty) == ("new has no scores yet",)
    document = two_studies(recall(stored()), empty)
    assert document.opening[0].title == "Still running." and "`new`" in document.opening[0].text


def test_the_figure_is_told_apart_without_colour(stored, tmp_path):
    from ambient_ray.reporting.report.side_by_side import both_fronts

    (tmp_path / "f.png").write_bytes(both_fronts(recall(stored()), recall(replace(stored(), name="twin"))))
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width > 1000


def test_less_copying_at_a_worse_fidelity_is_no_gain(stored):
    blurred = [
        stored_like(t, lambda s: {**s, **{k: s[k] + 50 for k in s if k.startswith("fd")}}) for t in stored().trials
    ]
    a, b = (
        recall(stored([t for t in stored().trials if t.arm != "ambient"])),
        recall(replace(stored(blurred), name="blur")),
    )
    assert "that of blur copies less at a worse fidelity, so neither is the better one" in champions_sentence(a, b)


def test_one_run_is_called_one_run(stored):
    alone = [t for t in stored().trials if t.replica_of is None]
    a, b = recall(replace(stored(alone), name="quick")), recall(stored())
    assert "Not confirmed on fresh seeds: quick, whose numbers are of one run" in champions_sentence(a, b)


def stored_like(trial, change):
    """The trial with its scores changed."""
    return replace(trial, rungs=tuple(replace(r, scores=change(r.scores)) for r in trial.rungs))
