"""The file that describes a cluster, as groups of nodes: what its user plans and pays for before anything runs.

    clusters/aws.yaml, gcp.yaml   `ray up`: `available_node_types`
    clusters/local.yaml           `ray up` on machines that are there: `metadata.machine` says what each of them has
    clusters/kuberay/*.yaml       RayCluster or RayJob: `workerGroupSpecs`
    clusters/skypilot.yaml        a SkyPilot task: `resources`, `num_nodes`

A file's kind is recognised by what is in it. Only what is asked for here is read; what else is in the file is checked
by whoever runs it: `ray up`, Kubernetes, SkyPilot.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError

from engine import UserError
from engine.cluster.machines import Cluster, NodeType
from engine.cluster.nodes import ACCELERATOR, KNOWN_GIB

ACCELERATOR_LABEL = "ray.io/accelerator-type"
MARKET_LABEL = "ray.io/market-type"
INSTANCE_LABEL = "node.kubernetes.io/instance-type"
GPU_LIMIT = "nvidia.com/gpu"
UNITS = {"Gi": 1.0, "Ti": 1024.0, "G": 1e9 / 2**30, "T": 1e12 / 2**30}  # of Kubernetes, in GiB
Document = Mapping[str, Any]


class NodeGroup(BaseModel):
    """Nodes of a cluster file that are alike: what one of them has, what it is rented as, how many there may be.

    `instance`: the name by which a cloud rents it; `disk_gib`: of the disk of one node; `fewest`: are always up.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    instance: str
    spot: bool
    n_cpus: NonNegativeInt
    n_gpus: NonNegativeInt
    accelerator: str
    disk_gib: NonNegativeFloat
    fewest: NonNegativeInt
    most: NonNegativeInt

    @property
    def n_devices(self) -> int:
        """GPUs of all of its nodes."""
        return self.most * self.n_gpus


def read(path: str) -> list[NodeGroup]:
    """The groups of the cluster that a file describes, its head included. Raises UserError that says what is wrong."""
    documents = load(path)
    try:
        groups = list(read_groups(documents))
    except Unreadable as error:
        raise UserError(f"{path}: {error}") from None
    except ValidationError as error:
        faults = (f"{path}: {e['loc'][0]} is {e['input']!r}: {e['msg']}" for e in error.errors())
        raise UserError("\n".join(faults)) from None
    except KeyError as error:
        raise UserError(f"{path}: {error} is missing; the files in clusters/ show where it belongs") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(f"{path}: not built like the files in clusters/ ({error})") from None
    for group in groups:
        check(group, path)
    return groups


class Unreadable(Exception):
    """What is wrong with a cluster file, and what to do."""


def load(path: str) -> list[Document]:
    """The documents of a YAML file. Raises UserError."""
    try:
        documents = list(yaml.safe_load_all(Path(path).read_text()))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); the files that ship are in clusters/") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    return [document for document in documents if isinstance(document, dict)]


def read_groups(documents: Sequence[Document]) -> Iterator[NodeGroup]:
    """The groups of whatever kind of cluster it is."""
    for document in documents:
        if document.get("kind") == "RayCluster":
            return read_kuberay(document["spec"])
        if document.get("kind") == "RayJob" and "clusterSelector" in document["spec"]:
            raise Unreadable("this job runs on a cluster that is there: give the file of that RayCluster")
        if document.get("kind") == "RayJob":
            return read_kuberay(document["spec"]["rayClusterSpec"])
        if "provider" in document:
            return read_ray_up(document)
        if "resources" in document and "run" in document:
            return read_skypilot(document)
    raise Unreadable("not a cluster of `ray up` (provider), KubeRay (kind: RayCluster, RayJob) or SkyPilot (resources)")


def check(group: NodeGroup, path: str) -> None:
    """Raises UserError if a group's GPUs cannot be planned for."""
    if group.n_gpus and group.accelerator not in KNOWN_GIB:
        raise UserError(
            f"{path}: {group.name} has {group.n_gpus} GPUs of kind {group.accelerator!r}; "
            f"known by their memory: {', '.join(KNOWN_GIB)}"
        )
    if not 0 <= group.fewest <= group.most:
        raise UserError(f"{path}: {group.name} has at least {group.fewest} and at most {group.most} nodes; swap them")


def describe_cluster(groups: Sequence[NodeGroup], path: str) -> Cluster:
    """What placements are chosen for: all nodes with GPUs to which the cluster may grow. Raises UserError."""
    nodes = tuple(
        NodeType(
            device="gpu",
            n_cpus=group.n_cpus,
            n_gpus=group.n_gpus,
            device_gib=KNOWN_GIB[group.accelerator],
            count=group.most,
            accelerator=group.accelerator,
        )
        for group in groups
        if group.n_devices
    )
    if not nodes:
        raise UserError(f"{path}: no node has a GPU; a cluster of CPUs is planned for once it is up, without --cluster")
    return Cluster(nodes=nodes)


# ---- ray up ----------------------------------------------------------------------------------------------------------


def read_ray_up(config: Document) -> Iterator[NodeGroup]:
    """The node types, in the order of the file."""
    check_ray_schema(config)
    if config["provider"]["type"] == "local":
        yield read_local(config)
        return
    for name, node in config["available_node_types"].items():
        is_head, most = name == config["head_node_type"], node.get("max_workers", config["max_workers"])
        yield NodeGroup(
            name=name,
            instance=find_instance(name, node["node_config"]),
            spot=is_spot(node["node_config"]),
            n_cpus=node["resources"].get("CPU", 0),
            n_gpus=node["resources"].get("GPU", 0),
            accelerator=find_accelerator(node["resources"]),
            disk_gib=sum(disk_sizes(node["node_config"])),
            fewest=1 if is_head else node.get("min_workers", 0),
            most=1 if is_head else min(most, config["max_workers"]),
        )


def check_ray_schema(config: Document) -> None:
    """Raises Unreadable unless the file follows Ray's own schema."""
    spec = find_spec("ray")  # Ray itself takes seconds to import
    assert spec
    assert spec.origin
    schema = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    error = jsonschema.exceptions.best_match(jsonschema.Draft7Validator(schema).iter_errors(config))
    if error:
        raise Unreadable(f"{'.'.join(map(str, error.absolute_path)) or 'at its top'}: {error.message}")


def read_local(config: Document) -> NodeGroup:
    """All machines, the head's too: each as `metadata.machine` says."""
    machine, n_machines = config["metadata"]["machine"], 1 + len(config["provider"]["worker_ips"])
    return NodeGroup(
        name="local.cluster.node",
        instance=machine.get("instance", "local"),
        spot=False,
        n_cpus=machine["cpus"],
        n_gpus=machine["gpus"],
        accelerator=machine["accelerator"],
        disk_gib=machine["disk_gib"],
        fewest=n_machines,
        most=n_machines,
    )


def find_instance(name: str, node_config: Document) -> str:
    """What AWS or Google calls the machine."""
    instance = node_config.get("InstanceType") or node_config.get("machineType")
    if not instance:
        raise Unreadable(f"{name}: its node_config has no InstanceType (AWS) or machineType (Google)")
    return str(instance)


def is_spot(node_config: Document) -> bool:
    """May the cloud take it back at any time?"""
    market, scheduling = node_config.get("InstanceMarketOptions", {}), node_config.get("scheduling", {})
    return "spot" in (market.get("MarketType"), scheduling.get("provisioningModel", "").lower())


def find_accelerator(resources: Document) -> str:
    """The kind of GPU that its resources name; empty if they name none."""
    return next((name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR)), "")


def disk_sizes(node_config: Document) -> Iterator[float]:
    """GiB of the disks that are rented with a node."""
    yield from (disk["Ebs"]["VolumeSize"] for disk in node_config.get("BlockDeviceMappings", []))
    yield from (disk["initializeParams"]["diskSizeGb"] for disk in node_config.get("disks", []))


# ---- Kubernetes ------------------------------------------------------------------------------------------------------


def read_kuberay(spec: Document) -> Iterator[NodeGroup]:
    """The head, then the groups of workers."""
    head = {"groupName": "head", "minReplicas": 1, "maxReplicas": 1, **spec["headGroupSpec"]}
    for group in (head, *spec["workerGroupSpecs"]):
        pod, labels, name = group["template"]["spec"], group.get("labels", {}), group["groupName"]
        limits = pod["containers"][0]["resources"]["limits"]
        yield NodeGroup(
            name=name,
            instance=pod.get("nodeSelector", {}).get(INSTANCE_LABEL, name),
            spot=labels.get(MARKET_LABEL) == "spot",
            n_cpus=group.get("rayStartParams", {}).get("num-cpus", limits["cpu"]),
            n_gpus=limits.get(GPU_LIMIT, 0),
            accelerator=labels.get(ACCELERATOR_LABEL, ""),
            disk_gib=read_quantity(limits["ephemeral-storage"]),
            fewest=group["minReplicas"],
            most=group["maxReplicas"],
        )


def read_quantity(text: str) -> float:
    """GiB of an amount as Kubernetes writes it, such as `200Gi`."""
    for unit, size in UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * size
    raise Unreadable(f"{text!r} is not an amount of memory; write it in {', '.join(UNITS)}")


# ---- SkyPilot --------------------------------------------------------------------------------------------------------


def read_skypilot(task: Document) -> Iterator[NodeGroup]:
    """All nodes of a task are alike; its first one is the head as well."""
    resources = task["resources"]
    kind, _, n_gpus = str(resources["accelerators"]).partition(":")
    n_nodes = task.get("num_nodes", 1)
    yield NodeGroup(
        name="task",
        instance=resources.get("instance_type", f"{kind}:{n_gpus or 1}"),
        spot=resources.get("use_spot", False),
        n_cpus=int(str(resources["cpus"]).rstrip("+")),
        n_gpus=int(n_gpus or 1),
        accelerator=kind,
        disk_gib=resources["disk_size"],
        fewest=n_nodes,
        most=n_nodes,
    )
