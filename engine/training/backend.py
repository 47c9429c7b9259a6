"""Torch's process group of a training run, closed to other machines where all of its workers are on one.

Torch's key-value store listens on all interfaces, whatever host it is given. Given a loopback host, as in a local run,
it listens there only.
"""

import socket
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend
from torch._C._distributed_c10d import TCPStore

from engine.cluster.loopback import ADDRESS


class Backend(_TorchBackend):
    """Ray Train's own, after each worker has learned where to listen."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(close_store)
        super().on_start(worker_group, backend_config)


@dataclass
class ClosedTorchConfig(TorchConfig):
    """Ray Train's settings for torch, with the backend above."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


def close_store() -> None:
    """Makes torch in this process create its store on loopback where it is given a loopback host."""
    rendezvous: Any = sys.modules["torch.distributed.rendezvous"]  # a function of that name hides the module
    create_open = rendezvous._create_c10d_store

    def create(host: str, port: int, rank: int, world_size: int, timeout: timedelta, *args: Any, **more: Any) -> Any:
        if host != ADDRESS or rank != 0:
            return create_open(host, port, rank, world_size, timeout, *args, **more)
        listening = socket.create_server((host, port))
        fd = listening.detach()
        return TCPStore(host, port, world_size, True, timeout, multi_tenant=True, master_listen_fd=fd, use_libuv=True)

    rendezvous._create_c10d_store = create
