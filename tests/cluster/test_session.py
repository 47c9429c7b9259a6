"""A local Ray is closed to everybody else, and a cluster that is not there is reported soon."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from local_cluster import nodes

pytestmark = pytest.mark.slow
AGENT_PORT = 52365  # Ray's default
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
# A driver with an actor, a task and a Train worker, as a study has, that waits until it is told to end.
DRIVER = """
import sys
from engine.cluster import session
import ray, torch.distributed
with session.running():
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer
    from engine.training.backend import ClosedTorchConfig

    @ray.remote
    class Actor:
        def ready(self):
            return True

    def work():
        import time, torch
        torch.distributed.all_reduce(torch.ones(1))
        print("training", flush=True)
        time.sleep(600)

    def train():
        TorchTrainer(work, torch_config=ClosedTorchConfig(),
                     scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5})).fit()

    actor = Actor.remote()
    ray.get(actor.ready.remote())
    training = ray.remote(num_cpus=0)(train).remote()
    gcs = ray.get_runtime_context().gcs_address
    print("ready", gcs, ray._private.worker.get_dashboard_url(), flush=True)
    sys.stdin.readline()
"""


def start_driver(stderr: int | None = None) -> "subprocess.Popen[str]":
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr}
    return subprocess.Popen([sys.executable, "-c", DRIVER], text=True, env=env, **pipes)


@pytest.fixture(scope="module")
def driver() -> "Iterator[tuple[subprocess.Popen[str], str, str]]":
    """A process with a local Ray in which training runs; with the addresses of GCS and dashboard."""
    process = start_driver()
    assert process.stdout
    try:
        line = next(line for line in process.stdout if line.startswith("ready"))
        _, gcs, dashboard = line.split()
        wait_for_training(process)
        yield process, gcs, dashboard
    finally:  # else its Ray would be in the way of other tests
        process.communicate("\n", timeout=60)


def wait_for_training(process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    """Until a Train worker has made its process group."""
    ends = time.monotonic() + seconds
    while not any("RayTrainWorker" in name for name in names_of(process)):
        assert time.monotonic() < ends
        time.sleep(0.5)
    time.sleep(5)


def names_of(process: "subprocess.Popen[str]") -> list[str]:
    """Command lines of its processes; those that have just ended have none."""
    names = []
    for p in descendants(process):
        with contextlib.suppress(psutil.Error):
            names.append(" ".join(p.cmdline()))
    return names


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    root = psutil.Process(process.pid)
    return [p for p in (root, *root.children(recursive=True)) if is_alive(p)]


def is_alive(process: psutil.Process) -> bool:
    """Not one that has just ended."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


Driver = tuple["subprocess.Popen[str]", str, str]


def test_every_socket_of_a_local_run_listens_on_loopback(driver: Driver) -> None:
    listening = [
        (process.name(), connection.laddr.ip)
        for process in descendants(driver[0])
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {"raylet", "gcs_server"} <= {name for name, _ in listening}
    assert any("RayTrainWo" in name for name, _ in listening)
    assert [one for one in listening if one[1] not in LOOPBACK] == []


def agent_ports(driver: Driver) -> list[int]:
    """Where the dashboard's agent of the node listens; on one of them it takes jobs."""
    [agent] = [p for p in descendants(driver[0]) if "DashboardAgent" in " ".join(p.cmdline())]
    return [c.laddr.port for c in agent.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]


def is_taken(port: int, driver: Driver) -> bool:
    """Does a process that is not this driver's listen there?"""
    mine = {process.pid for process in descendants(driver[0])}
    listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
    return any(c.laddr.port == port and c.pid not in mine for c in listening)


def submit(address: str, command: str) -> int:
    """The status with which a job is answered over HTTP; 0 where nothing speaks HTTP."""
    body, headers = json.dumps({"entrypoint": command}).encode(), {"Content-Type": "application/json"}
    try:
        urllib.request.urlopen(urllib.request.Request(address, data=body, headers=headers), timeout=20)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return 0
    return 200


@pytest.mark.parametrize("way", ["dashboard", "agent"])
def test_a_job_from_somebody_else_is_refused_over_http(driver: Driver, way: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    addresses = [f"http://127.0.0.1:{port}/api/job_agent/jobs/" for port in agent_ports(driver)]
    if way == "dashboard":
        addresses = [f"http://{driver[2]}/api/jobs/"]
    answers = {submit(address, f"touch {mark}") for address in addresses}
    time.sleep(3)
    assert not mark.exists()
    assert 200 not in answers
    if way == "agent" and is_taken(AGENT_PORT, driver):
        pytest.skip("another Ray of this machine has the port on which an agent takes jobs: this one takes none")
    assert 401 in answers


def test_a_task_from_somebody_else_is_refused(driver: Driver, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = (
        f"import ray; ray.init(address={driver[1]!r}); ray.get(ray.remote(lambda: open({str(mark)!r}, 'w')).remote())"
    )
    modes = ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64})
    strangers = [start(["-c", code], mode) for mode in modes]
    ends = time.monotonic() + 40  # where nothing hinders them, they need five; refused, Ray tries for a minute
    for stranger in strangers:
        try:
            assert stranger.wait(timeout=max(0, ends - time.monotonic())) != 0
        except subprocess.TimeoutExpired:
            stranger.kill()
    assert not mark.exists()


def start(arguments: list[str], ray: dict[str, str]) -> "subprocess.Popen[str]":
    """Python in a process of its own, which knows of Ray only what it is told."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | ray
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env=env, **output)


def test_only_this_user_can_read_the_token_which_is_in_no_log_and_gone_afterwards() -> None:
    code = (
        "from engine import TOKEN_FILE\n"
        "from engine.cluster import loopback, session\n"
        "import os\n"
        "with session.running():\n"
        "    modes = [oct(os.stat(path).st_mode & 0o777) for path in (TOKEN_FILE, os.path.dirname(TOKEN_FILE))]\n"
        "    print(TOKEN_FILE, session.log_folder(), loopback.TOKEN, *modes)\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    file, logs, token, *modes = done.stdout.split()
    assert modes == ["0o600", "0o700"]
    assert not Path(file).exists()
    written = [log for log in Path(logs).rglob("*") if log.is_file()]
    assert written
    assert [log for log in written if token.encode() in log.read_bytes()] == []


def test_a_cluster_that_is_not_there_is_one_line_within_half_a_minute(tmp_path: Path) -> None:
    job, began = ["jobs/grid.py", "--study", "quickstart", "--storage", str(tmp_path)], time.monotonic()
    addresses = ("127.0.0.1:1", "ray://127.0.0.1:1", "nowhere")
    jobs = {address: start(job, {"RAY_ADDRESS": address}) for address in addresses}
    for address, one in jobs.items():
        _, said = one.communicate(timeout=120)
        assert one.returncode == 2
        assert f"RAY_ADDRESS {address!r}" in said
        assert "unset RAY_ADDRESS" in said
        assert len(said.splitlines()) == 1
    assert time.monotonic() - began < 90


def test_a_ray_that_comes_up_too_late_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from engine.cluster import session

    raised = [Exception("The current node timed out during startup. This could"), Exception("timed out during startup")]

    def init(**options: object) -> None:
        if raised:
            raise raised.pop()

    monkeypatch.setattr(ray, "init", init)
    session.start()
    assert raised == []
    raised.append(ValueError("no such option"))
    with pytest.raises(ValueError, match="no such option"):
        session.start()


# ---- a cluster that is there -----------------------------------------------------------------------------------------

# What a job does: it connects for the plan, and again for the run.
PLANNED_FOR = """
from engine.cluster import reach, session
from engine.cluster.machines import ServingPlacement
with session.running():
    print(reach.describe_cluster(None, 0, may_grow=True).gpus)
with session.running(max_gpus=8):
    print(session.largest_resources()["GPU"])
    need = ServingPlacement(device="gpu", threads=1, tensor_parallel=8, fits=True)
    print(reach.wait_for_nodes({"a": need}, seconds=1))
"""


def test_a_study_is_planned_for_the_nodes_of_the_cluster_and_not_for_the_driver() -> None:
    """The node has four logical GPUs. It cannot be asked for their memory, which follows from their name then."""
    with nodes(6391, {"CPU": 2, "GPU": 4, "accelerator_type:H100": 1}) as env:
        code = [sys.executable, "-c", PLANNED_FOR]
        done = subprocess.run(code, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    described, largest, waiting, reasons = done.stdout.splitlines()
    assert described == "[Gpus(accelerator='H100', gib=79.6, per_node=4, total=4)]"
    assert largest == "8.0"
    assert waiting.startswith("Waiting for nodes with 1 × 8 GPUs on one node")
    assert "needs 8 GPUs of one node, the largest node has 4; no other came up" in reasons


def test_a_job_whose_ray_is_killed_says_so_and_ends() -> None:
    process = start_driver(stderr=subprocess.PIPE)
    assert process.stdout
    next(line for line in process.stdout if line.startswith("ready"))
    [raylet] = [p for p in descendants(process) if p.name() == "raylet"]
    raylet.kill()
    assert process.wait(timeout=30) == 1
    _, printed = process.communicate()
    assert "Ray on this machine was killed" in printed.splitlines()[-1]
    assert "run the same command again" in printed.splitlines()[-1]
