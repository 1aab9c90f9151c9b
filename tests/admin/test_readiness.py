from sidecar.admin.readiness import Readiness


async def test_the_latch_opens_when_nothing_is_missing():
    """Whoever waits for readiness is let go by the last thing that was missing."""
    readiness = Readiness("one", "other")
    readiness.done("one")
    assert not readiness.ready
    readiness.done("other")
    readiness.done("other")
    assert readiness.ready
    await readiness.wait()


async def test_nothing_missing_is_ready_at_once():
    """Without anything pending there is nothing to wait for."""
    await Readiness().wait()


async def test_draining_is_for_good():
    """Once draining, nothing makes it ready again."""
    readiness = Readiness("one")
    readiness.drain()
    readiness.done("one")
    assert readiness.reason == "draining"
