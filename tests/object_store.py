"""A real S3 server on this machine (moto) for tests, which can be told to fail."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Faults:
    """In front of the server: answers the next requests as a store does that is overloaded, slow, or cut off.

    `plan` has one fault per request, in their order: "503", "cut" (the connection ends), "slow" (a second); after the
    last one all is well. `seen` counts the requests.
    """

    def __init__(self, server: Wsgi) -> None:
        self.server, self.plan, self.seen = server, [], 0
        self.plan: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.seen += 1
        fault = self.plan.pop(0) if self.plan else ""
        if fault == "slow":
            time.sleep(1)
        if fault == "cut":
            environ["werkzeug.socket"].shutdown(2)
            return [b""]
        if fault == "503":
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return self.server(environ, start_response)


@contextmanager
def serve(bucket: str) -> Iterator[tuple[dict[str, str], Faults]]:
    """The environment of a client of the server, which has one bucket, and the faults in front of it."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    faults = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    env = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = dict(os.environ)
    os.environ |= env
    try:
        make_bucket(bucket)
        yield env, faults
    finally:
        os.environ.clear()
        os.environ |= before
        server.shutdown()
        thread.join()


def make_bucket(name: str) -> None:
    """As a user would have made it before."""
    import s3fs

    s3fs.S3FileSystem(use_listings_cache=False).mkdir(name)
