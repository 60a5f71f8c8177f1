"""aws.yaml and gcp.yaml by Ray's own code, and their machines by the clouds' own descriptions of their interfaces."""

import copy
import json
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from recipes import LAUNCHERS, document, planted


def prepared(config):
    """As `ray up` reads it, with Ray's defaults. Raises what Ray raises."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    ready = prepare_config(copy.deepcopy(config))
    validate_config(ready)
    return ready


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_takes_it(name):
    ready = prepared(document(name))
    assert ready["head_node_type"] == "head" and ready["docker"]["image"]


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("idle_timeout_minuts",), 15),
        (("available_node_types", "spot-l4", "priority"), "high"),
        (("available_node_types", "spot-l4", "resources", "GPU"), 0.5),
        (("available_node_types", "spot-l4", "min_wrokers"), 0),
        (("head_node_type",), "hed"),
        (("docker", "imagee"), "x"),
    ],
)
def test_ray_refuses_a_typo(name, path, value):
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        prepared(planted(document(name), path, value))


def start_problems(ready):
    """What is not as it must be in the commands that start Ray, defaults included."""
    found = []
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [line for line in ready[key] if "ray start" in line]
        if not starts or not all("RAY_AUTH_MODE=token" in line for line in starts):
            found.append(f"{key}: no token")
        if not all("RAY_AUTH_TOKEN_PATH=" in line for line in starts):
            found.append(f"{key}: whose token?")
    head = " ".join(ready["head_start_ray_commands"])
    if "--dashboard-host=127.0.0.1" not in head:
        found.append("the dashboard listens on all addresses")
    if "--num-cpus=0" not in head or ready["available_node_types"]["head"]["resources"].get("CPU") != 0:
        found.append("trials would run on the head")
    token = [k for k in ready["file_mounts"] if k.endswith("auth_token")]
    if not token or any(f"RAY_AUTH_TOKEN_PATH={path}" not in head for path in token):
        found.append("the token is not brought to where it is read")
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands"):
        found += [f"{key} changes the image: {line}" for line in ready[key] if "install" in line]
    types = {k: v for k, v in ready["available_node_types"].items() if k != "head"}
    spot = {k for k, v in types.items() if v["labels"]["ray.io/market-type"] == "spot"}
    if len(spot) < 2:
        found.append("one type of spot machine")
    if not spot < types.keys() or max(types[k]["priority"] for k in types.keys() - spot) >= min(
        types[k]["priority"] for k in spot
    ):
        found.append("spot machines are not preferred")
    return found


@pytest.mark.parametrize("name", LAUNCHERS)
def test_nodes_start_with_a_token_and_trials_stay_off_the_head(name):
    assert start_problems(prepared(document(name))) == []


@pytest.mark.parametrize("name", LAUNCHERS)
@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("worker_start_ray_commands",), ["ray start --address=$RAY_HEAD_IP:6379"], "no token"),
        (("head_start_ray_commands",), ["RAY_AUTH_MODE=token ray start --head"], "all addresses"),
        (("available_node_types", "head", "resources"), {"CPU": 4}, "on the head"),
        (("setup_commands",), ["pip install ray"], "changes the image"),
        (("file_mounts",), {}, "not brought"),
        (("available_node_types", "on-demand-l4", "priority"), 50, "not preferred"),
    ],
)
def test_a_fault_in_how_nodes_start_is_found(name, path, value, word):
    problems = start_problems(prepared(planted(document(name), path, value)))
    assert any(word in problem for problem in problems), problems


def test_rays_defaults_would_change_the_image_if_nothing_were_said():
    """Why the setup commands are written out as empty."""
    config = document("gcp.yaml")
    for key in ("setup_commands", "head_setup_commands"):
        del config[key]
    assert any("changes the image" in problem for problem in start_problems(prepared(config)))


def aws_problems(config):
    """Machines by the model of EC2's RunInstances that boto3 brings."""
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    found = []
    for name, kind in config["available_node_types"].items():
        report = ParamValidator().validate({"MinCount": 1, "MaxCount": 1, **kind["node_config"]}, shape)
        found += [f"{name}: {report.generate_report()}"] if report.has_errors() else []
        market = kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType", "on-demand")
        if kind.get("labels", {}).get("ray.io/market-type", "on-demand") != market:
            found.append(f"{name}: its label does not say {market}")
    return found


def gcp_problems(config):
    """Machines by the description of the Compute Engine's Instance that Google's client brings."""
    text = resources.files("googleapiclient").joinpath("discovery_cache/documents/compute.v1.json").read_text()
    known = json.loads(text)["schemas"]
    found = []

    def check(value, schema, path):
        if "$ref" in schema:
            schema = known[schema["$ref"]]
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in schema.get("properties", {}):
                    check(inner, schema["properties"][key], f"{path}.{key}")
                elif "additionalProperties" not in schema:
                    found.append(f"{path}: no field {key}")
        elif isinstance(value, list):
            if schema.get("type") != "array":
                found.append(f"{path}: no list")
            for part in value:
                check(part, schema.get("items", {}), path)
        elif "enum" in schema and value not in schema["enum"]:
            found.append(f"{path}: {value} is none of {schema['enum']}")

    for name, kind in config["available_node_types"].items():
        check(kind["node_config"], {"$ref": "Instance"}, name)
        told = kind["node_config"].get("scheduling")
        market = "spot" if isinstance(told, dict) and told.get("provisioningModel") == "SPOT" else "on-demand"
        if kind.get("labels", {}).get("ray.io/market-type", "on-demand") != market:
            found.append(f"{name}: its label does not say {market}")
    return found


PROBLEMS = {"aws.yaml": aws_problems, "gcp.yaml": gcp_problems}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_cloud_knows_every_field_of_a_machine(name):
    assert PROBLEMS[name](document(name)) == []


@pytest.mark.parametrize(
    ("name", "path", "value", "word"),
    [
        ("aws.yaml", ("InstanceTyp",), "g6.2xlarge", "InstanceTyp"),
        ("aws.yaml", ("BlockDeviceMappings", 0, "Ebs", "VolumeSiz"), 200, "VolumeSiz"),
        ("aws.yaml", ("InstanceMarketOptions",), {}, "label"),
        ("gcp.yaml", ("machineTyp",), "g2-standard-8", "machineTyp"),
        ("gcp.yaml", ("disks", 0, "initializeParams", "diskSizeGib"), 200, "diskSizeGib"),
        ("gcp.yaml", ("scheduling", "provisioningModel"), "SPOTT", "SPOTT"),
        ("gcp.yaml", ("scheduling",), [{"provisioningModel": "SPOT"}], "no list"),
    ],
)
def test_a_wrong_field_of_a_machine_is_found(name, path, value, word):
    config = planted(document(name), ("available_node_types", "spot-l4", "node_config", *path), value)
    assert any(word in problem for problem in PROBLEMS[name](config))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_autoscaler_v2_knows_the_preference(name):
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    kinds = AutoscalingConfig(prepared(document(name)), skip_content_hash=True).get_node_type_configs()
    assert kinds["spot-l4"].priority > kinds["on-demand-l4"].priority
