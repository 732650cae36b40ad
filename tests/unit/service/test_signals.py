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


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_means_an_end_is_taken_as_sigterm(number: signal.Signals) -> None:
    assert _after(f"signal.raise_signal({number:d})") == "ends\nalive\n"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTOU, signal.SIGTTIN])
def test_a_signal_without_a_meaning_does_nothing(number: signal.Signals) -> None:
    assert _after(f"signal.raise_signal({number:d})") == "alive\n"


def test_a_terminal_may_close_where_the_caller_wants_to_outlive_it() -> None:
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    assert _after("signal.raise_signal(signal.SIGHUP)", before=ignored) == "alive\n"


def _after(action: str, before: str = "") -> str:
    """What a process prints that has settled its signals."""
    code = (
        f"import signal\n{before}\n"
        "from service.signals import settle_signals\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('ends', flush=True))\n"
        f"settle_signals()\n{action}\nprint('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout
