from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.p4runtime.fake import FakeBackend
from tests.p4runtime.harness import SAMPLE, RawClient, Stream, config_of, served


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def address(backend: FakeBackend) -> Iterator[str]:
    with served(backend) as (_serving, address):
        yield address


@pytest.fixture
def raw(address: str) -> Iterator[RawClient]:
    """A client on a switch without a pipeline."""
    client = RawClient(address)
    yield client
    client.close()


@pytest.fixture
def primary(raw: RawClient) -> Stream:
    """The primary's stream; afterwards ``raw`` may write and the sample pipeline runs."""
    stream = raw.become_primary()
    raw.set_config(config_of(SAMPLE))
    return stream
