"""Clients of AWS, whose libraries have no types: made in one place, as `Any`."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any, Final

CREDENTIALS: Final = {"aws_access_key_id": "AKIANONE", "aws_secret_access_key": "none"}


@lru_cache
def session(library: str = "botocore") -> Any:
    """A session of `botocore` or `aiobotocore`; one, for it keeps what takes long to load."""
    return importlib.import_module(f"{library}.session").get_session()


def client(service: str, url: str, region: str = "us-east-1", **settings: Any) -> Any:
    """A client of botocore for an endpoint; `settings` are those of its `Config`."""
    config = importlib.import_module("botocore.config").Config(**{"read_timeout": 20, **settings})
    return session().create_client(service, region_name=region, endpoint_url=url, config=config, **CREDENTIALS)


def making(service: str, url: str, region: str = "us-east-1", **settings: Any) -> Any:
    """A context that makes a client of aiobotocore."""
    config = importlib.import_module("aiobotocore.config").AioConfig(**{"read_timeout": 20, **settings})
    made = session("aiobotocore")
    return made.create_client(service, region_name=region, endpoint_url=url, config=config, **CREDENTIALS)


def add_header(client: Any, name: str, value: str) -> None:
    """Put a header on every request of a client."""

    def add(request: Any, **_: Any) -> None:
        request.headers[name] = value

    client.meta.events.register("before-sign.*", add)
