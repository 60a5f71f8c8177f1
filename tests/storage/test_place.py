"""Where checkpoints are: what a path or URL names, and that no credentials are ever part of it."""

from pathlib import Path

import pytest

from ambient_ray.console.command import ConfigurationError, load
from ambient_ray.console.configuration import validate
from ambient_ray.storage import RemoteFolder, StorageUrlError, check_store, locate


def test_paths_stay_paths_and_urls_keep_their_question_mark_at_the_end():
    assert locate("/nfs/x") == Path("/nfs/x")
    assert locate("file:///nfs/a%20b") == Path("/nfs/a b")
    place = locate("s3://bucket/prefix/?region=eu-west-1") / "study" / "0003"
    assert str(place) == "s3://bucket/prefix/study/0003?region=eu-west-1"
    assert locate(str(place)) == place
    assert (place.name, place.parent.name, place.root) == ("0003", "study", "s3://bucket")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://AKIA:hush@bucket/x", "holds credentials, which would be stored and logged"),
        ("s3://AKIA@bucket/x", "holds credentials"),
        ("gs://hush@bucket/x", "holds credentials"),
        ("hdfs://me:hush@host/x", "holds credentials"),
        ("s3://bucket/x?secret_key=hush", "option 'secret_key', which is none of endpoint_override, region, scheme"),
        ("s3://bucket/x?endpoint_override=http://me:hush@host", "holds credentials in its option 'endpoint_override'"),
        ("gs://bucket/x?access_token=hush", "holds credentials in its option 'access_token'"),
        ("s3:///x", "names no bucket: write s3://BUCKET/PREFIX"),
        ("file://host/x", "names no file of this machine"),
        ("s3://bucket/../x", "may not hold"),
    ],
)
def test_credentials_and_nonsense_are_refused_in_one_sentence_without_the_secret(url, words):
    with pytest.raises(StorageUrlError) as refused:
        locate(url)
    told = str(refused.value)
    assert words in told and "hush" not in told and "\n" not in told
    with pytest.raises(StorageUrlError) as refused:
        validate(load("search", [f"'checkpoints=\"{url}\"'".strip("'")]))
    assert "hush" not in str(refused.value)


def test_a_relative_path_is_refused_as_other_nodes_have_another_folder():
    with pytest.raises(ConfigurationError, match="checkpoints: must be a URL or an absolute path"):
        validate(load("search", ["checkpoints=runs"]))


def test_each_study_has_its_own_folder(tmp_path):
    def place(*overrides):
        return validate(load("search", [f"output_dir={tmp_path}", "study=faces", *overrides])).checkpoint_folder

    assert place() == tmp_path / "faces" / "trials"
    assert place("checkpoints=/nfs/runs") == Path("/nfs/runs/faces")
    assert place("checkpoints=s3://bucket/runs") == RemoteFolder("s3://bucket/runs/faces")


def test_an_unknown_scheme_says_what_there_is():
    with pytest.raises(StorageUrlError, match=r"no file system is known for ftp:// .*give an absolute path, or s3://"):
        check_store(locate("ftp://host/x"))
