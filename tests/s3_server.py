"""An S3 server on loopback, and the environment of programs that take it for Amazon's."""

from contextlib import contextmanager

import pytest

__all__ = ["CREDENTIALS", "environment", "s3_server"]

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@contextmanager
def s3_server():
    """The address of moto's server; skips the test where it is not installed."""
    pytest.importorskip("s3fs", reason="needs the extra `remote` (s3fs)")
    server_module = pytest.importorskip("moto.server", reason="needs moto with its server, of the extra `dev`")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, found = server.get_host_and_port()
    try:
        yield f"http://{host}:{found}"
    finally:
        server.stop()


def environment(url):
    """Without the credentials."""
    return {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_DISABLED": "true"}
