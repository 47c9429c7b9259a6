"""A Ray cluster of several nodes on this machine, in processes of its own, for tests."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

RAY = str(Path(sys.executable).parent / "ray")
Resources = Mapping[str, float]  # by Ray's names
# Waits for so many nodes. The head may not be there yet when it starts.
ALL_UP = """
import sys, time, ray
ends = time.monotonic() + 100
while True:
    try:
        ray.init(log_to_driver=False, logging_level="error")
        break
    except ConnectionError:
        assert time.monotonic() < ends
        time.sleep(0.5)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    assert time.monotonic() < ends
    time.sleep(0.2)
"""


@contextmanager
def nodes(port: int, *resources: Resources) -> Iterator[dict[str, str]]:
    """Starts one node per mapping, the first of them the head; gives the environment of a driver of this cluster."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: paths of sockets are limited
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"RAY_AUTH_MODE": "disabled"}
    env |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}  # more than one node on loopback
    head = ["--head", "--port", str(port), "--temp-dir", str(folder), "--include-dashboard=false"]
    head += ["--ray-client-server-port", str(port + 1000)]
    joining = ["--address", f"127.0.0.1:{port}"]
    started = []
    try:
        for place, has in enumerate(resources):
            own_port = ["--dashboard-agent-listen-port", str(port + 2000 + place)]
            started.append(start_node([*(joining if place else head), *own_port], has, env))
        env |= {"RAY_ADDRESS": f"127.0.0.1:{port}"}
        subprocess.run([sys.executable, "-c", ALL_UP, str(len(resources))], env=env, check=True, timeout=120)
        yield env
    finally:
        for node in reversed(started):
            node.terminate()
        for node in started:
            node.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def start_node(where: Sequence[str], has: Resources, env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """A node that runs until it is terminated."""
    others = {name: amount for name, amount in has.items() if name not in ("CPU", "GPU")}
    what = ["--num-cpus", f"{has.get('CPU', 0):g}", "--num-gpus", f"{has.get('GPU', 0):g}"]
    command = [RAY, "start", "--block", "--node-ip-address", "127.0.0.1", *where, *what, "--resources"]
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*command, json.dumps(others)], env=dict(env), **output)
