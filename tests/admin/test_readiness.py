from sidecar.admin.readiness import Readiness


def test_it_is_ready_when_nothing_is_missing():
    """The last thing that was missing opens it, and saying that twice does no harm."""
    readiness = Readiness("one", "other")
    readiness.done("one")
    assert not readiness.ready
    readiness.done("other")
    readiness.done("other")
    assert readiness.ready
    assert Readiness().ready


def test_draining_is_for_good():
    """Once draining, nothing makes it ready again."""
    readiness = Readiness("one")
    readiness.drain()
    readiness.done("one")
    assert readiness.reason == "draining"
