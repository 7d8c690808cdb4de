"""Faults of the network between workers and broker, for both shells: lost replies, time-outs that were none, a broker out of reach."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.proxy import END_TRANSACTION, INIT_PRODUCER, PRODUCE, Proxy, broker_behind_proxy
from support.workers import SHELLS, Crowd, create_counting_topics

LOST = 5
TIMEOUT_S = 3.0


@pytest.fixture(scope="module")
def network():
    with broker_behind_proxy() as found:
        yield found


@pytest.fixture
def proxy(network) -> Iterator[Proxy]:
    yield network[1]
    network[1].restore()


@pytest.fixture(params=SHELLS)
def crowd(request: pytest.FixtureRequest, network, tmp_path: Path) -> Iterator[Crowd]:
    _, _, around, through = network
    prefix = f"t{uuid.uuid4().hex[:10]}."
    kafka = replace(around, prefix=prefix)
    create_counting_topics(kafka)
    found = Crowd(request.param, kafka, tmp_path)
    found.workers_kafka = replace(through, prefix=prefix)
    found.supervised = True
    yield found
    found.close()


@pytest.mark.faults
@pytest.mark.parametrize("api_key", [PRODUCE, END_TRANSACTION], ids=["records", "commit"])
def test_lost_replies_make_nothing_count_twice(crowd: Crowd, proxy: Proxy, api_key: int) -> None:
    """the broker's acknowledgement of records or of a commit is lost, several times, and the connection breaks: each input counts once."""
    crowd.start().ready()
    crowd.use(100)
    crowd.exact()
    before = proxy.lost
    proxy.lose_replies(api_key, LOST)
    while proxy.still_to_lose(api_key):
        crowd.use(40)
        crowd.until(crowd.sent.total())
    assert proxy.lost > before
    crowd.exact()


@pytest.mark.faults
def test_a_worker_that_hears_nothing_while_its_transaction_succeeds_counts_once(crowd: Crowd, proxy: Proxy) -> None:
    """producer time-out with later success: no reply arrives, the worker gives up, the broker has done it all; each input counts once."""
    crowd.start(timeout_s=TIMEOUT_S).ready()
    crowd.use(100)
    crowd.exact()
    crowd.use(400)
    before = proxy.lost
    proxy.mute()
    until_s = time.monotonic() + TIMEOUT_S + 2
    while time.monotonic() < until_s:
        crowd.read(0.1)
    assert proxy.lost > before
    proxy.restore()
    crowd.use(100)
    crowd.exact(120)


@pytest.mark.faults
def test_opening_a_partition_is_tried_again_where_the_reply_gets_lost(crowd: Crowd, proxy: Proxy) -> None:
    """the reply to the request that fences the former owner is lost: it is asked again, each input counts once."""
    crowd.use(100)
    proxy.lose_replies(INIT_PRODUCER, LOST)
    crowd.start().ready()
    crowd.exact()


@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seconds", [8, 60])
def test_a_broker_out_of_reach_costs_time_alone(crowd: Crowd, proxy: Proxy, seconds: int) -> None:
    """broker unreachable (connections cut, new ones refused) for 8 s and for 60 s, its clients writing on: every input counts once."""
    crowd.start().ready()
    crowd.use(200)
    crowd.until(50)
    proxy.cut()
    until_s = time.monotonic() + seconds
    crowd.use(200)
    while time.monotonic() < until_s:
        crowd.read(0.2)
        crowd.revive()
    proxy.restore()
    crowd.use(200)
    crowd.exact(120)
