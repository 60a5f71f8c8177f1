"""A bucket that answers 503, a disk that is full, a search whose checkpoints are in a bucket."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from s3_server import s3_store
from search_process import run


@pytest.fixture
def store(tmp_path):
    with s3_store(tmp_path / "cache") as served:
        yield served


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_a_search_keeps_its_checkpoints_in_a_bucket(store, tmp_path, count):
    from ambient_ray.tuning.records import Objectives
    from ambient_ray.tuning.study import Study

    more = ("trials=2", "trial.rungs=[640,1280,1920]", f"checkpoints={store.url}", "enqueue=points.yaml")
    (tmp_path / "points.yaml").write_text("[]")
    code, out = run(tmp_path, *more[:-1], seconds=800)
    assert code == 0, out
    study = Study("story", f"journal:{tmp_path}/out/story/study.journal", Objectives("fd_classifier", "f_mem"))
    rungs = [rung for trial in study.trials() for rung in trial.rungs]
    assert len(rungs) >= 3 and all(rung.checkpoint.startswith(f"{store.url}/story/") for rung in rungs)
    keys = store.keys()
    for rung in rungs:
        key = rung.checkpoint.removeprefix("s3://bucket/") + "/checkpoint.json"
        kept = json.loads(store.client.get_object(Bucket="bucket", Key=key)["Body"].read())
        assert kept["scores"] == rung.scores
    assert not list((tmp_path / "out").rglob("*.safetensors")) or "mlruns" in str(
        list((tmp_path / "out").rglob("*.safetensors"))
    )
    print(out)
    print("\n".join(f"{k} {v}" for k, v in sorted(keys.items())))
