"""What a worker is given of the whole sidecar's settings."""

from msgspec.structs import replace

from sidecar.config.settings import Limits
from sidecar.errors import Mistake
from sidecar.workers.worker import share_of
from tests.config.support import MINIMAL, loaded


def test_the_limit_of_connections_is_for_all_together(tmp_path):
    """Each gets its share, rounded up; warnings are told once."""
    made = replace(loaded(tmp_path, MINIMAL), warnings=(Mistake("file", "key", "is weak"),))
    assert [len(share_of(made, index, 2).warnings) for index in (0, 1)] == [1, 0]
    for connections, workers, share in ((10_000, 2, 5_000), (10, 3, 4), (1, 4, 1)):
        whole = replace(made, limits=Limits(connections=connections))
        assert [share_of(whole, index, workers).limits.connections for index in range(workers)] == [share] * workers
