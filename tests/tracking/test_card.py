"""The model card: true to the version's tags, valid for the hub, within MLflow's limits, and it promises nothing."""

import ast
import json
import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from ambient_ray.interval import Interval
from ambient_ray.tracking.models.card import DESCRIPTION_LIMIT, SCORES, description, model_card
from ambient_ray.tracking.models.origin import REPRODUCE, Origin
from ambient_ray.tracking.models.promotion import Evidence

ID = "m-" + "0" * 32
EVIDENCE = Evidence(
    ("fd_classifier", "f_mem"), Interval(5.26, 2.94, 7.57), Interval(0.189, 0.131, 0.248), True, seeds=(1, 2, 3),
    sentence="At matched fidelity, no evidence of a difference.",
    facts={"n": 500, "n_train": 300, "extractor": "classifier", "weight_hash": "03ec2cf8b3b7aa", "mirror": 0},
    notes={"configuration": "sigma_tn 0.5, ratio 0.50", "arm": "ambient"},
)  # fmt: skip
ORIGIN = Origin(
    "faces", 12, "ambient", 1, {"sigma_tn": 0.5, "seed": 3},
    {"name": "faces", "content_hash": "ab" * 32, "n": 1797, "n_train": 300, "n_heldout": 1497, "shape": [1, 8, 8]},
    {"seed": 3, "noise_seed": 0, "latent_seed": 0, "lr": 0.003}, {"study": "faces"},
    "python -m ambient_ray.search study=faces", "python -m ambient_ray.train study=faces-trial-12", "3ddb784d",
    {"torch": "2.14.1"},
)  # fmt: skip
VALUES = {"f_mem": 0.2, "f_mem_low": 0.17, "f_mem_high": 0.24, "f_mem_heldout": 0.0, "s_tau": 0.11, "s_null": 0.0007}


def tags(evidence=EVIDENCE, origin=ORIGIN, scores=None, **more):
    return evidence.tags() | {
        REPRODUCE: origin.tag(), SCORES: json.dumps(scores or VALUES), "images_seen": "307200", **more
    }  # fmt: skip


def test_the_card_says_what_it_is_what_it_copies_and_how_to_make_and_load_it():
    card = model_card("faces", ID, tags())
    for said in (
        "# faces: sigma_tn 0.5, ratio 0.50, stopped at 307,200 images",
        "Trial 12, which repeats trial 1 on a fresh seed of the study faces",
        "fidelity, `fd_classifier` | 5.26 [2.94, 7.57]", "memorization, `f_mem` | 0.189 [0.131, 0.248]",
        "| 0.2 [0.17, 0.24] | 0 |", "| 0.11 | 0.0007 |",
        "500 samples against 300 training images, features by classifier (weights 03ec2cf8b3b7)",
        "mirror images are missed by `f_mem`", "**No privacy guarantee is claimed**",
        "1,797 images in all, 300 trained on, 1,497 held out", "ab" * 32, "8x8 pixels, 1 channel",
        "python -m ambient_ray.search study=faces", "python -m ambient_ray.train study=faces-trial-12", "3ddb784d",
        "seeds: seed 3, noise_seed 0, latent_seed 0", "torch 2.14.1", "no evidence of a difference.",
        "is not decided by this tool", "2502.21278", f'uri = "models:/{ID}"',
    ):  # fmt: skip
        assert said in card, said


def test_what_no_copies_among_n_still_allows_is_said():
    none = {"f_mem": 0.0, "f_mem_low": 0.0, "f_mem_high": 0.0076}
    assert "No copy among them still allows 0.76 % of copies" in model_card("faces", ID, tags(scores=none))
    assert "still allows" not in model_card("faces", ID, tags())
    flipped = replace(EVIDENCE, facts={**EVIDENCE.facts, "mirror": 1, "shift": 2})
    text = model_card("faces", ID, tags(flipped))
    assert "mirror images count as copies here, copies moved by up to 2 pixels count" in text


def test_its_front_matter_is_what_the_hub_takes():
    hostile = replace(ORIGIN, study="a: b\n---\n# x", dataset={"name": "x: [y"})
    for given in (tags(), tags(origin=hostile)):
        text = model_card("fa: ces", ID, given)
        head = yaml.safe_load(text.split("---\n")[1])
        card = ModelCard(text)
        assert head["library_name"] == "diffusers" and "license" not in head
        assert {"diffusers", "ambient-diffusion", "memorization"} <= set(head["tags"])
        found = {result.metric_type: result.metric_value for result in card.data.eval_results}
        assert found["f_mem"] == 0.189 and found["fd_classifier"] == 5.26 and found["s_tau"] == 0.11
        assert card.data.model_name == "fa: ces"


def test_the_code_of_the_card_is_python():
    (block,) = re.findall(r"```python\n(.*?)```", model_card("faces", ID, tags()), re.DOTALL)
    ast.parse(block)


def test_the_promotion_is_told_once_it_is_done_and_what_lacks_evidence_says_so():
    note = {"promoted.by": "ann", "promoted.at": "2026-05-01T12:00:00Z", "promoted.reason": "seen\n## Forged",
            "promoted.from": "3", "promoted.evidence": "none"}  # fmt: skip
    assert "## Promotion" not in model_card("faces", ID, tags(**note, **{"promoted.state": "begun"}))
    text = model_card("faces", ID, tags(**note, **{"promoted.state": "done"}))
    assert "Promoted to champion by ann at 2026-05-01T12:00:00Z, after version 3: seen ## Forged." in text
    assert "**Without evidence**" in text and "\n## Forged" not in text
    carried = tags(**note | {"promoted.evidence": "f_mem below"}, **{"promoted.state": "done"})
    assert "Without evidence" not in model_card("faces", ID, carried)


@pytest.mark.parametrize("length", [0, 2000, 4000, 20_000])
def test_the_description_is_the_card_as_far_as_mlflow_keeps_it(length):
    long = tags(replace(EVIDENCE, sentence="word " * (length // 5)), replace(ORIGIN, command="x" * length))
    text, card = description("faces", ID, long), model_card("faces", ID, long)
    assert text.startswith("faces: sigma_tn 0.5, ratio 0.50, stopped at 307,200 images\n")
    assert len(text) <= DESCRIPTION_LIMIT and "No privacy guarantee is claimed" in text
    body = card.split("---\n", 2)[2].strip().removeprefix("# ")
    if text != body:
        assert text.endswith("The whole card is README.md among this version's artifacts.")
        assert "## How to reproduce" in text and "`reproduce`" in text
        told = [part for part in text.split("\n\n")[:-1] if not part.startswith(("Commands, seeds", "The tag `record"))]
        assert all(part in body for part in told)
    else:
        assert length == 0


def test_versions_of_other_makers_get_a_card_too():
    text = model_card("faces", ID, {})
    assert text.startswith("---\nlibrary_name: diffusers") and "# faces\n" in text
    assert "## Figures" not in text and "How to reproduce" not in text and "No privacy guarantee is claimed" in text
