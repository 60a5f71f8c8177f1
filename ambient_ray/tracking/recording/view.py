"""What a person sees who opens the study in MLflow: a saved view with charts and columns, and what the study asks.

MLflow keeps a saved view of an experiment's runs as the experiment's tag `mlflow.sharedViewState.<id>`; its menu
"Views" lists them, and the query `viewStateShareKey=<id>` of the runs page opens one. The tag's value is JSON with a
name, two times, and the page's state, itself JSON, as it is or deflated (found by reading MLflow 3.17's pages; the
browser test holds it). A view can't open the runs below a run, so this one is sorted by a score: then MLflow lists all
runs side by side, and its charts show all of them.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..labels import ARM, IMAGES_SEEN, KIND, REASON, STATE

VIEW = "ambient-ray"  # the view's id
NAME = "Fidelity and memorization"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
NOTE, COLOR = "mlflow.note.content", "mlflow.runColor"
EXPERIMENT_KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"  # not about language models
_PAGES = "workflowType=machine_learning"  # else they are those for language models, whoever has not chosen

_OWN, _MODEL, _SYSTEM = "ambient-ray-objectives", "ambient-ray-metrics", "ambient-ray-system"
_DDPM, _RIVAL, _UNKNOWN = "#D55E00", "#8A8A8A", "#0072B2"  # Okabe and Ito's vermillion and blue
_LIGHT, _DARK = (0x9F, 0xD3, 0xF2), (0x00, 0x2B, 0x4E)  # blues for little noise and for much
_SIGMA_RANGE = (0.1, 4.0)  # what the paper and the shipped spaces search


def view_link(experiment_id: str) -> str:
    """Where the saved view is, relative to any page of the MLflow server."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&compareRunsMode=CHART&{_PAGES}"


def view_state(objectives: tuple[str, str], searched: Sequence[str], conditional: Sequence[str] = ()) -> dict[str, Any]:
    """The state of MLflow's page of runs: the trials, best fidelity first, with the charts and columns of a study.

    Args:
        objectives: the names of the two scores, fidelity and memorization.
        searched: the parameters that vary and that every trial has. DDPM may lack some; MLflow leaves a run out of the
            parallel coordinates that lacks one of them.
        conditional: those that exist in some trials only. They are columns, and no axes.
    """
    fidelity, memorization = objectives
    charts = [_scatter("objectives", _axis(fidelity), _axis(memorization))]
    if searched:
        axes = {"selectedParams": list(searched), "selectedMetrics": [fidelity, memorization]}
        charts.append(_chart("parallel", "PARALLEL", **axes, showAllRuns=False))
    charts += [_line(score) for score in objectives]
    if searched:
        main = _axis("sigma_tn" if "sigma_tn" in searched else searched[0], "PARAM")
        charts += [_scatter(f"response-{score}", main, _axis(score)) for score in objectives]
    columns = [
        *(f"tags.`{tag}`" for tag in (ARM, STATE, REASON)),
        *(f"params.`{name}`" for name in (*searched, *conditional)),
        *(f"metrics.`{score}{end}`" for score in objectives for end in ("", "_low", "_high")),
        f"metrics.`{IMAGES_SEEN}`",
        *(f"metrics.`confirmed.{score}`" for score in objectives),
    ]
    return {
        "searchFilter": f"tags.`{KIND}` = 'trial'",
        "orderByKey": f"metrics.`{fidelity}`", "orderByAsc": True,
        "startTime": "ALL", "lifecycleFilter": "Active", "modelVersionFilter": "All Runs", "datasetsFilter": [],
        "selectedColumns": columns, "columnOrder": columns,
        "columnWidths": {column: max(90, 7 * len(column.split("`")[1]) + 40) for column in columns},  # pixels
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts,
        "compareRunSections": [
            _section(_OWN, NAME, display=True),
            _section(_MODEL, "Model metrics", display=False),
            _section(_SYSTEM, "System metrics", display=False),
        ],
        "hideEmptyCharts": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }  # fmt: skip


def saved_view(state: Mapping[str, Any], created: int) -> str:
    """The tag's value that saves a page's state under NAME. created: in milliseconds since 1970."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    return json.dumps({"name": NAME, "createdAt": created, "updatedAt": created, "state": f"deflate;{packed}"})


def study_note(experiment_id: str, objectives: tuple[str, str], searched: Sequence[str]) -> str:
    """The experiment's description, in Markdown: what is asked, where to look, and how to read the runs."""
    varied = f"Varied: {', '.join(f'`{name}`' for name in searched)}." if searched else "Nothing is varied."
    return "\n\n".join(
        (
            "Which settings copy the training images least at the same image quality?"
            f" **[Open the charts]({view_link(experiment_id)})**",
            f"Image quality is `{objectives[0]}`, copying `{objectives[1]}`; lower is better in both. {varied}"
            f" The charts are also under *Views*, as *{NAME}*: every trial by both scores at its last stop, parallel"
            " coordinates, and both scores over training.",
            "The study's run holds the answer and its figures. Below it are the trials, and below a trial its"
            " repetitions on fresh training seeds. Steps are training images seen; `_low` and `_high` are 95 %"
            " intervals; `_heldout` is what real images score that were not trained on.",
            "DDPM is red, its rivals are grey; an Ambient trial is the darker a blue, the larger its `sigma_tn`.",
        )
    )


def run_color(arm: str, params: Mapping[str, Any]) -> str:
    """A run's colour in MLflow's charts, `#RRGGBB`: by its arm, and the darker the larger sigma_tn is.

    Lightness alone tells the order, so colour-blind people and grey prints do not lose it. sigma_tn is looked up by the
    last part of dotted keys.
    """
    sigma_tn = next((value for key, value in params.items() if key.rpartition(".")[2] == "sigma_tn"), None)
    if arm in {"ddpm", "rival"}:
        return _DDPM if arm == "ddpm" else _RIVAL
    if isinstance(sigma_tn, bool) or not isinstance(sigma_tn, int | float) or not sigma_tn > 0:
        return _UNKNOWN
    low, high = (math.log(end) for end in _SIGMA_RANGE)
    place = min(max((math.log(sigma_tn) - low) / (high - low), 0.0), 1.0)
    mixed = (round(light + (dark - light) * place) for light, dark in zip(_LIGHT, _DARK, strict=True))
    return "#" + bytes(mixed).hex().upper()


def _axis(key: str, kind: str = "METRIC") -> dict[str, str]:
    return {"key": key, "type": kind}


def _chart(name: str, kind: str, **more: Any) -> dict[str, Any]:
    common = {"uuid": f"{VIEW}-{name}", "type": kind, "metricSectionId": _OWN, "deleted": False, "isGenerated": False}
    return {**common, "runsCountToCompare": 100, **more}


def _scatter(name: str, xaxis: Mapping[str, str], yaxis: Mapping[str, str]) -> dict[str, Any]:
    return _chart(name, "SCATTER", xaxis=dict(xaxis), yaxis=dict(yaxis))


def _line(score: str) -> dict[str, Any]:
    return _chart(
        score, "LINE", metricKey=score, selectedMetricKeys=[score], displayPoints=True,
        lineSmoothness=0, scaleType="linear", xAxisScaleType="linear", xAxisKey="step", selectedXAxisMetricKey="",
        range={}, yAxisKey="metric", yAxisExpressions=[], ignoreOutliers=False,
        useGlobalXaxisKey=True, useGlobalLineSmoothing=True,
    )  # fmt: skip


def _section(uuid: str, name: str, display: bool) -> dict[str, Any]:
    return {
        "uuid": uuid, "name": name, "display": display, "isReordered": False, "deleted": False,
        "isGenerated": uuid != _OWN,
    }  # fmt: skip
