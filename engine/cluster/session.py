"""Ray for a job: the cluster that is there, or one on this machine for as long as the job runs."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from engine import RAY_DEFAULTS, UserError
from engine.cluster import loopback
from engine.cluster.machines import Device, gpu_memories, n_cores
from engine.cluster.nodes import Node

CONNECT_S = 20.0  # that a cluster may take to answer
RAY_ENDED = (
    "Ray on this machine was killed (its raylet ended with status {}), perhaps because memory ran out. "
    "Everything that was finished is kept: run the same command again."
)
growth = {"GPU": 0.0}  # what the autoscaler of the cluster may grow it to: Ray itself does not know


@contextmanager
def running(max_gpus: int = 0) -> Iterator[None]:
    """Connects to the cluster that RAY_ADDRESS or a submitted job names, else starts one that nobody else can reach.

    A cluster is used as it is, with its own authentication; its autoscaler may grow it to `max_gpus`. Raises UserError
    if none answers at the address.
    """
    address = cluster_address()
    growth["GPU"] = float(max_gpus) if address else 0.0
    if address:
        check_reachable(address)
        with started(environment(), {}):
            yield
    else:
        with loopback.closed() as folder, started(environment() | loopback.GLOO, own_ray(str(folder))), watched():
            yield


def cluster_address() -> str | None:
    """Where the cluster is that the job is to use; None if it starts its own."""
    return os.environ.get("RAY_ADDRESS")


def is_submitted() -> bool:
    """Was this process started by `ray job submit`?"""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def own_ray(folder: str) -> dict[str, Any]:
    """How a Ray of this machine is started. The dashboard is needed: without it Tune frees no resources of a trial."""
    # "local", since Ray would otherwise connect to whatever cluster was last started on this machine.
    options = {"address": "local", "include_dashboard": True, "dashboard_host": loopback.ADDRESS, "_temp_dir": folder}
    return options | {"num_cpus": n_cores()}  # what is planned for


def environment() -> dict[str, str]:
    """What Ray's workers are given: nothing secret, since Ray keeps it in its logs."""
    return {name: value for name, value in os.environ.items() if name in RAY_DEFAULTS or name.startswith("ENGRAM_")}


@contextmanager
def started(env: dict[str, str], options: dict[str, Any]) -> Iterator[None]:
    """Ray, until the end."""
    import ray

    start(runtime_env={"env_vars": env}, **options)
    try:
        yield
    finally:
        ray.shutdown()


def start(attempts: int = 3, **options: Any) -> None:
    """Starts Ray, or connects. Ray gives its own processes 30 s to come up, which a busy machine may need more than."""
    import ray

    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, namespace="engram", **options)
    except Exception as error:
        if attempts == 1 or "timed out during startup" not in str(error):
            raise
        start(attempts - 1, **options)


@contextmanager
def watched() -> Iterator[None]:
    """Ends the job with a plain line if its own Ray is killed: Ray would end it later, with a traceback or no word."""
    from ray._private.worker import global_worker

    node: Any = global_worker.node
    raylet = node.all_processes["raylet"][0].process
    over = threading.Event()
    threading.Thread(target=end_with, args=(raylet, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def end_with(raylet: "subprocess.Popen[bytes]", over: threading.Event) -> None:
    """Ends this process when the other has ended, unless it is over before."""
    while not over.wait(0.5):
        if raylet.poll() is not None:
            print(RAY_ENDED.format(raylet.returncode), file=sys.stderr, flush=True)
            os._exit(1)


def check_reachable(address: str, seconds: float = CONNECT_S) -> None:
    """Raises UserError if nothing answers there in time: Ray itself would try for minutes."""
    place = known_address() if address == "auto" else address.removeprefix("ray://")
    host, _, port = place.rpartition(":")
    remedy = "start a cluster there, or unset RAY_ADDRESS to run on this machine alone"
    if not host or not port.isdigit():
        raise UserError(f"RAY_ADDRESS {address!r}: no cluster is known by this address; {remedy}")
    ends = time.monotonic() + seconds
    while not answers(host, int(port)):
        if time.monotonic() > ends:
            raise UserError(f"RAY_ADDRESS {address!r}: no cluster answers at {place}; {remedy}")
        time.sleep(1)


def known_address() -> str:
    """Where the cluster listens that was last started on this machine; empty if there was none."""
    from ray._private.utils import read_ray_address

    return read_ray_address() or ""


def answers(host: str, port: int) -> bool:
    """Does anything listen there?"""
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def free_resources() -> dict[str, float]:
    """What is free on the cluster now, by Ray's names."""
    import ray

    return dict(ray.available_resources())


def largest_resources() -> dict[str, float]:
    """The cluster's resources now, or as far as its autoscaler may grow it."""
    import ray

    now = dict(ray.cluster_resources())
    return now | {kind: max(now.get(kind, 0.0), most) for kind, most in growth.items()}


def live_nodes() -> list[Node]:
    """The nodes that are up."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def ask_for_nodes(bundles: Sequence[Mapping[str, float]]) -> None:
    """Has the autoscaler, if there is one, make room for these bundles and keep it, until it is asked for others."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[dict(bundle) for bundle in bundles])


def measure_gpus(node: Node) -> list[float]:
    """Memory of each GPU of a node in GiB; none if it has no nvidia-smi."""
    import ray

    memories: list[float] = ray.get(on_node(node, gpu_memories))
    return memories


def on_each_node(function: Callable[..., Any], device: Device, *args: Any) -> None:
    """Calls a function on all nodes that are up and have the device, at once. Raises what it raises, or RayError."""
    import ray

    mine = ray.get_runtime_context().get_node_id()
    having = [node for node in live_nodes() if node["Resources"].get(device.upper(), 0) >= 1]
    others = [on_node(node, function, *args) for node in having if node["NodeID"] != mine]
    if len(others) < len(having):
        function(*args)
    ray.get(others)


def on_node(node: Node, function: Callable[..., Any], *args: Any) -> Any:
    """A call of a function on one node, which takes none of its resources."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task: Any = ray.remote(function)
    return task.options(num_cpus=0, scheduling_strategy=there).remote(*args)


def log_folder() -> str:
    """Where Ray keeps the logs of its workers, on each machine of the cluster."""
    from ray._private.worker import global_worker

    return str(global_worker.node.get_logs_dir_path()) if global_worker.node else ""
