"""A local Ray is closed to everybody else, and a cluster that is not there is reported soon."""

import json
import os
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow
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


@pytest.fixture(scope="module")
def driver() -> "Iterator[tuple[subprocess.Popen[str], str, str]]":
    """A process with a local Ray in which training runs; with the addresses of GCS and dashboard."""
    folder = tmp_path_factory.mktemp("private")
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "TMPDIR": f"/tmp/{folder.parent.name[:8]}"
    }
    Path(env["TMPDIR"]).mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    assert process.stdout
    line = next(line for line in process.stdout if line.startswith("ready"))
    _, gcs, dashboard = line.split()
    wait_for_training(process)
    yield process, gcs, dashboard
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.close()
    process.wait(timeout=60)


def wait_for_training(process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    """Until a Train worker has made its process group."""
    ends = time.monotonic() + seconds
    while not any("RayTrainWorker" in name for name in names_of(process)):
        assert time.monotonic() < ends
        time.sleep(0.5)
    time.sleep(5)


def names_of(process: "subprocess.Popen[str]") -> list[str]:
    return [" ".join(p.cmdline()) for p in descendants(process)]


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    root = psutil.Process(process.pid)
    return [root, *root.children(recursive=True)]


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


def agent_port(driver: Driver) -> int:
    """Where the dashboard's agent of the node takes jobs."""
    [agent] = [p for p in descendants(driver[0]) if "DashboardAgent" in " ".join(p.cmdline())]
    ports = [c.laddr.port for c in agent.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
    return next(port for port in ports if port >= 52365 and port < 52465)


@pytest.mark.parametrize("way", ["dashboard", "agent"])
def test_a_job_from_somebody_else_is_refused_over_http(driver: Driver, way: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    address = driver[2] if way == "dashboard" else f"127.0.0.1:{agent_port(driver)}"
    path = "/api/jobs/" if way == "dashboard" else "/api/job_agent/jobs/"
    body = json.dumps({"entrypoint": f"touch {mark}"}).encode()
    request = urllib.request.Request(f"http://{address}{path}", data=body, headers={"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, timeout=20)
    time.sleep(3)
    assert not mark.exists()


def test_a_task_from_somebody_else_is_refused(driver: Driver, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = (
        f"import ray; ray.init(address={driver[1]!r}); ray.get(ray.remote(lambda: open({str(mark)!r}, 'w')).remote())"
    )
    for mode in ("disabled", "token"):
        token = {"RAY_AUTH_TOKEN": "0" * 64} if mode == "token" else {}
        env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"RAY_AUTH_MODE": mode} | token
        try:
            tried = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            continue
        assert tried.returncode != 0
    assert not mark.exists()


def test_only_this_user_can_read_the_token_and_it_is_gone_afterwards(tmp_path: Path) -> None:
    code = (
        "from engine import TOKEN_FILE\n"
        "from engine.cluster import session\n"
        "import os\n"
        "with session.running():\n"
        "    print(TOKEN_FILE, oct(os.stat(TOKEN_FILE).st_mode), oct(os.stat(os.path.dirname(TOKEN_FILE)).st_mode))\n"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    file, mode, folder_mode = done.stdout.split()
    assert (int(mode, 8) & 0o777, int(folder_mode, 8) & 0o777) == (0o600, 0o700)
    assert stat.S_ISDIR(os.stat(Path(file).parent).st_mode)
    assert not Path(file).exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere"])
def test_a_cluster_that_is_not_there_is_one_line_within_half_a_minute(address: str, tmp_path: Path) -> None:
    job = [sys.executable, "jobs/grid.py", "--study", "quickstart", "--storage", str(tmp_path)]
    began = time.monotonic()
    env = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"RAY_ADDRESS": address}
    done = subprocess.run(job, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert time.monotonic() - began < 60
    assert f"RAY_ADDRESS {address!r}" in done.stderr
    assert "unset RAY_ADDRESS" in done.stderr
    assert len(done.stderr.splitlines()) == 1
