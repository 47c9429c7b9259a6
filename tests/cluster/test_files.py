"""The files in clusters/: no key is misspelt, nothing is open, no default of Ray is left; and how they are read."""

import copy
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import shapes
import yaml
from ray.autoscaler._private import util as ray_up

from engine import UserError
from engine.cluster import files, rates
from engine.cluster.files import NodeGroup
from engine.planning import costs

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "clusters"
RAY_UP = ("aws", "gcp", "local")
FILES = (*RAY_UP, "skypilot", *(f"kuberay/{path.stem}" for path in sorted((CLUSTERS / "kuberay").glob("*.yaml"))))
DESCRIBED = (*RAY_UP, "skypilot", "kuberay/cluster")  # those that say what nodes there are
KUBERNETES = "1.37"
Path_ = tuple[str | int, ...]


def text_of(name: str) -> str:
    return (CLUSTERS / f"{name}.yaml").read_text()


def documents_of(name: str) -> list[Any]:
    return list(yaml.safe_load_all(text_of(name)))


def groups_of(name: str) -> list[NodeGroup]:
    return files.read(str(CLUSTERS / f"{name}.yaml"))


# ---- keys ------------------------------------------------------------------------------------------------------------


def find_faults(document: dict[str, Any]) -> list[str]:
    """What is wrong with a document, by the schema of whoever takes it and by ours."""
    if "provider" in document:
        return ray_up_faults(document)
    if "run" in document:
        return list(shapes.unknown_keys(document, shapes.SKYPILOT))
    if document["kind"] == "RayCluster":
        spec = document["spec"]
        pods = [group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
        return [*shapes.unknown_keys(document, shapes.RAY_CLUSTER), *pod_faults(pods)]
    if document["kind"] == "RayJob":
        pod = document["spec"]["submitterPodTemplate"]["spec"]
        return [*shapes.unknown_keys(document, shapes.RAY_JOB), *pod_faults([pod])]
    if document["kind"] == "PersistentVolumeClaim":
        amounts = document["spec"]["resources"]
        return [*shapes.unknown_keys(amounts, shapes.CLAIM_AMOUNTS), *kubernetes_faults(document)]
    return kubernetes_faults(document)


def ray_up_faults(config: dict[str, Any]) -> list[str]:
    """Of a file of `ray up`: Ray's own check, as `ray up` does it; then what Ray hands on to a cloud unseen."""
    kind, types = config["provider"].get("type", "aws"), config.get("available_node_types", {})
    faults = list(shapes.unknown_keys(config["provider"], shapes.PROVIDER[kind], "provider"))
    for node in types.values():
        faults += shapes.unknown_keys(node.get("node_config", {}), shapes.NODE[kind], "node_config")
        faults += shapes.unknown_keys(node, {"*": None, "labels": shapes.LABELS, "resources": shapes.RESOURCES})
    try:
        ray_up.validate_config(ray_up.prepare_config(copy.deepcopy(config)))
        list(files.read_ray_up(config))
    except Exception as error:  # whatever a check of Ray raises
        faults.append(str(error))
    return faults


def pod_faults(pods: Sequence[Any]) -> list[str]:
    """Of pods, without their metadata."""
    faults = []
    for pod in pods:
        faults += kubernetes_faults({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod})
        for container in pod.get("containers", []):
            shape = {"requests": shapes.POD_AMOUNTS, "limits": shapes.POD_AMOUNTS}
            faults += shapes.unknown_keys(container.get("resources", {}), shape, "resources")
    return faults


def kubernetes_faults(document: Any) -> list[str]:
    return validate(json.dumps(document))


@cache
def validate(text: str) -> list[str]:
    """What is wrong with a document; cached, since most pods of a cluster are as they were."""
    try:
        kubernetes_validate.validate(json.loads(text), KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, KeyError, kubernetes_validate.SchemaNotFoundError) as error:
        return [str(error)]
    return []


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_no_fault(name: str) -> None:
    for document in documents_of(name):
        assert find_faults(document) == []


def key_paths(value: Any, above: Path_ = ()) -> Iterator[Path_]:
    """The way to each key of a document."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        if isinstance(key, str):
            yield (*above, key)
        yield from key_paths(inner, (*above, key))


# What its user names at will.
FREE = re.compile(
    r"metadata\.(yours|disks|image|stay|spot)(\..*)?|file_mounts\..*|available_node_types\.[^.]*|stringData\..*"
    r"|.*\.(nodeSelector|matchLabels)\..*"
)


def typos(document: Any) -> dict[str, Path_]:
    """One way to each key that is not free; of node types and groups, the first that has such a key."""
    found: dict[str, Path_] = {}
    for path in key_paths(document):
        if not FREE.fullmatch(".".join(map(str, path))):
            of_a_type = len(path) > 1 and path[0] == "available_node_types"
            alike = [step for step in path[2 if of_a_type else 0 :] if isinstance(step, str)]
            found.setdefault(".".join(alike), path)
    return found


def misspell(document: Any, path: Path_) -> Any:
    """The document with an x after one of its keys."""
    changed = copy.deepcopy(document)
    below = changed
    for step in path[:-1]:
        below = below[step]
    below[f"{path[-1]}x"] = below.pop(path[-1])
    return changed


@pytest.mark.parametrize("name", FILES)
def test_a_typo_in_any_key_is_caught(name: str) -> None:
    for document in documents_of(name):
        ways = typos(document)
        assert len(ways) > 5
        for way, path in ways.items():
            with suppress(KeyError):  # a check that stops at what is missing has caught it, too
                assert find_faults(misspell(document, path)), way


# ---- nothing open, nothing left to Ray -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RAY_UP)
def test_no_default_of_ray_is_left(name: str) -> None:
    [config] = documents_of(name)
    defaults = ray_up._get_default_config(config["provider"])
    assert defaults.keys() - {"available_node_types", "head_node_type"} <= config.keys()
    for start in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "export RAY_AUTH_MODE=token PATH=$HOME/engram/.venv/bin:$PATH; ray start" in start[-1]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert "0.0.0.0" not in text_of(name)


def test_each_node_of_aws_says_what_ray_would_choose() -> None:
    [config] = documents_of("aws")
    for node in config["available_node_types"].values():
        assert shapes.AWS_NODE.keys() - node["node_config"].keys() <= {"InstanceMarketOptions"}


def test_the_head_works_not_and_a_small_node_is_always_up() -> None:
    for name in ("aws", "gcp", "kuberay/cluster"):
        head, small, *with_gpus = groups_of(name)
        assert (head.n_cpus, head.n_gpus) == (0, 0)
        assert (small.fewest, small.n_gpus, small.spot) == (1, 0, False)
        assert small.n_cpus >= 4
        assert {group.fewest for group in with_gpus} == {0}
        per_node = {(group.n_gpus, group.accelerator) for group in with_gpus}
        assert per_node == {(1, "L4"), (1, "H100"), (8, "H100"), (8, "H200")}


def priorities(name: str) -> dict[str, int]:
    [document] = documents_of(name)
    if "provider" in document:
        return {k: node.get("priority", 0) for k, node in document["available_node_types"].items()}
    return {group["groupName"]: group["priority"] for group in document["spec"]["workerGroupSpecs"]}


@pytest.mark.parametrize("name", ["aws", "gcp", "kuberay/cluster"])
def test_spot_comes_before_on_demand_and_small_nodes_before_large_ones(name: str) -> None:
    order = priorities(name)
    with_gpus = sorted((g for g in groups_of(name) if g.n_gpus), key=lambda group: -order[group.name])
    sizes = [(group.n_gpus, files.KNOWN_GIB[group.accelerator]) for group in with_gpus]
    assert sizes == sorted(sizes)
    for first, second in pairwise(with_gpus):
        assert first.instance != second.instance or (first.spot, second.spot) == (True, False)


@pytest.mark.parametrize("name", ["aws", "gcp", "kuberay/cluster"])
def test_a_node_stays_longer_than_it_takes_to_start(name: str) -> None:
    [document] = documents_of(name)
    if "provider" in document:
        idle = [document["idle_timeout_minutes"] / 60]
    else:
        spec = document["spec"]
        idle = [group["idleTimeoutSeconds"] / 3600 for group in (spec["autoscalerOptions"], *spec["workerGroupSpecs"])]
    assert min(idle) > costs.NODE_START_H


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_the_cluster_may_have_all_of_its_nodes_at_once(name: str) -> None:
    [config] = documents_of(name)
    types = config["available_node_types"].items()
    assert config["max_workers"] == sum(node["max_workers"] for k, node in types if k != "head")


def test_kuberay_asks_for_a_token_and_has_the_ray_that_is_installed() -> None:
    [cluster], [secret] = documents_of("kuberay/cluster"), documents_of("kuberay/token")
    assert cluster["spec"]["authOptions"] == {"mode": "token", "secretName": secret["metadata"]["name"]}
    assert cluster["spec"]["autoscalerOptions"]["version"] == "v2"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"][0]
    assert wanted.endswith(f"=={cluster['spec']['rayVersion']}")
    assert f"rayproject/ray:{cluster['spec']['rayVersion']}-py311" in (CLUSTERS / "kuberay/Dockerfile").read_text()


def test_no_file_has_a_token() -> None:
    [secret], [task] = documents_of("kuberay/token"), documents_of("skypilot")
    assert (secret["stringData"]["auth_token"], task["secrets"]["RAY_AUTH_TOKEN"]) == ("", None)


@pytest.mark.parametrize("name", DESCRIBED)
def test_each_instance_has_a_price(name: str) -> None:
    prices = rates.read(str(CLUSTERS / "prices.yaml")).hourly
    assert {group.instance for group in groups_of(name)} - {"local"} <= prices.keys()


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_a_node_type_is_read_as_it_is_written() -> None:
    spot = next(group for group in groups_of("aws") if group.name == "gpu-8x80-spot")
    assert spot == NodeGroup(
        name="gpu-8x80-spot",
        instance="p5.48xlarge",
        spot=True,
        n_cpus=192,
        n_gpus=8,
        accelerator="H100",
        disk_gib=2000,
        fewest=0,
        most=2,
    )
    pod = next(group for group in groups_of("kuberay/cluster") if group.name == "gpu-8x80-spot")
    assert pod.model_copy(update={"instance": "p5.48xlarge", "n_cpus": 192, "disk_gib": 2000}) == spot
    [task] = groups_of("skypilot")
    assert (task.n_gpus, task.accelerator, task.fewest, task.most) == (8, "H100", 2, 2)
    [machines] = groups_of("local")
    assert (machines.n_gpus, machines.most, machines.disk_gib) == (8, 3, 2000)


BROKEN = {
    "at its top: Additional properties are not allowed ('max_worker'": ("aws", "max_workers: 34", "max_worker: 34"),
    "available_node_types.cpu.max_workers: '2' is not of type": (
        "aws",
        "max_workers: 2\n    priority: 100",
        "max_workers: '2'",
    ),
    "gpu-1x24-spot has 1 GPUs of kind 'L5'; known by their memory: T4": (
        "aws",
        "accelerator_type:L4",
        "accelerator_type:L5",
    ),
    "gpu-1x80-spot: its node_config has no InstanceType": ("aws", "InstanceType: p5.4xlarge", "InstanceType:"),
    "'maxReplicas' is missing": ("kuberay/cluster", "maxReplicas: 8", "maxReplica: 8"),
    "'lots' is not an amount of memory; write it in Gi": ("kuberay/cluster", "1500Gi", "lots"),
    "n_cpus is '14.5'": ("kuberay/cluster", 'limits: {cpu: "14"', 'limits: {cpu: "14.5"'),
    "gpu-8x80-spot has at least 3 and at most 2 nodes": ("aws", "min_workers: 0", "min_workers: 3"),
    "'gpus' is missing": ("local", "gpus: 8, ", ""),
    "not built like the files in clusters/": ("local", "machine: {", "machine: 8 # {"),
    "not YAML": ("local", "machine: {", "machine: {{"),
    "give the file of that RayCluster": ("kuberay/job", "", ""),
    "not a cluster of `ray up`": ("kuberay/token", "", ""),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_fault_is_named_with_its_file(message: str, tmp_path: Path) -> None:
    name, old, new = BROKEN[message]
    file = tmp_path / "mine.yaml"
    file.write_text(text_of(name).replace(old, new))
    with pytest.raises(UserError, match=re.escape(message)) as error:
        files.read(str(file))
    assert str(error.value).startswith(f"{file}: ")


def test_a_file_that_is_not_there_and_one_without_gpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        files.read(str(tmp_path / "none.yaml"))
    with pytest.raises(UserError, match="no node has a GPU"):
        files.describe_cluster(groups_of("aws")[:2], "aws.yaml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("on_demand: 6.88", "on_demand: -1", "hourly.p5.4xlarge.on_demand"),
        ("spot: 3.00", "spott: 3.00", "hourly.p5.4xlarge.spott"),
        ("as_of: 2026-11-26", "as_of: soon", "as_of"),
        ("currency: USD", "", "currency"),
    ],
)
def test_a_fault_of_a_price_table_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text_of("prices").replace(old, new))
    with pytest.raises(UserError, match=re.escape(f"{file}: {message}: ")):
        rates.read(str(file))
