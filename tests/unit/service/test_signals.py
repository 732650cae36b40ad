import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from service.signals import before_sigterm


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_the_notice_comes_before_the_handler_that_was_there() -> None:
    seen: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append("handler"))
    before_sigterm(lambda: seen.append("notice"))
    signal.raise_signal(signal.SIGTERM)
    assert seen == ["notice", "handler"]


def test_without_a_handler_the_signal_still_ends_the_process() -> None:
    code = (
        "import signal; from service.signals import before_sigterm; "
        "before_sigterm(lambda: print('notice', flush=True)); "
        "signal.raise_signal(signal.SIGTERM); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "notice\n"
