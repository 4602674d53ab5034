"""How late the event loop is, as /metrics tells it."""

from __future__ import annotations

import asyncio
import re
import time

from server.metrics import Metrics
from server.pulse import EVERY, Pulse


def counted(metrics: Metrics, bound: str) -> int:
    found = re.search(rf'gitstore_loop_lag_seconds_bucket{{le="{re.escape(bound)}"}} (\d+)', metrics.render().decode())
    assert found is not None
    return int(found[1])


def test_what_holds_up_the_loop_is_counted() -> None:
    metrics = Metrics()

    async def main() -> None:
        pulse = Pulse(metrics)
        pulse.start()
        await asyncio.sleep(4 * EVERY)
        time.sleep(EVERY + 0.3)
        await asyncio.sleep(4 * EVERY)
        pulse.stop()
        seen = counted(metrics, "+Inf")
        await asyncio.sleep(4 * EVERY)
        assert counted(metrics, "+Inf") == seen

    asyncio.run(main())
    assert counted(metrics, "+Inf") - counted(metrics, "0.25") >= 1
    assert counted(metrics, "+Inf") > 2
