"""The certificate of a running server, taken anew from its files when these are renewed."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.errors import InvalidInput
from service.metrics import TlsMetrics
from service.tls import TlsFiles, TlsPair, make_context, read_pair

logger = logging.getLogger(__name__)
LOOK_S = 1.0
# A pair is replaced in two steps, and between them its files do not go together.
_LOOKS_BEFORE_TROUBLE = 3

# Whether a transport can use a pair. Raises InvalidInput.
Check = Callable[[TlsPair], None]


class Certificate:
    """The pair in use; new connections get it as it is then. Belongs to the event loop."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files. Raises InvalidInput."""
        self.files = files
        self.pair = read_pair(files)
        self.context = _RenewableContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.current = make_context(self.pair.certificate, self.pair.key)

    def renew(self, pair: TlsPair) -> None:
        """Use another pair for what connects from now on."""
        self.context.current = make_context(pair.certificate, pair.key)
        self.pair = pair


class _RenewableContext(ssl.SSLContext):
    """What a listener keeps for its life; each connection is of the context that is `current`.

    Another pair in the same context would leave an old certificate of another kind (RSA, EC) there.
    """

    current: ssl.SSLContext

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """A connection, as uvloop and asyncio ask for one."""
        return self.current.wrap_bio(*args, **options)


class Renewal:
    """Looks at the files of a certificate, and takes over what is sound.

    What is not is reported once, in the log and as a metric, and the old pair stays.
    """

    def __init__(
        self,
        certificate: Certificate,
        metrics: TlsMetrics,
        check: Check,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._certificate = certificate
        self._metrics = metrics
        self._check = check
        self._clock = clock
        self._seen: object = None  # how the files looked when they were last read and used
        self._failures = 0
        self._complaint: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Report the certificate as it is, and follow its files from now on."""
        self._report()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End following."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def look(self) -> None:
        """Take over what the files hold, if they have changed."""
        seen = await asyncio.to_thread(_appearance, self._certificate.files)
        if self._failures or seen != self._seen:
            try:
                await self._take(await asyncio.to_thread(read_pair, self._certificate.files))
            except InvalidInput as error:
                self._fail(str(error))
            else:
                self._seen = seen
                self._succeed()
        self._report()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:
                logger.exception("looking for a renewed TLS certificate failed; trying again")

    async def _take(self, pair: TlsPair) -> None:
        """Use `pair`, unless clients would refuse it and accept the old one. InvalidInput."""
        old, now = self._certificate.pair, self._clock()
        if (pair.certificate, pair.key) == (old.certificate, old.key):
            return
        complaint = pair.complaint(now)
        if complaint is not None and old.complaint(now) is None:
            raise InvalidInput(f"the certificate {self._certificate.files.certificate} {complaint}")
        await asyncio.to_thread(self._check, pair)
        self._certificate.renew(pair)
        logger.warning("TLS uses the renewed certificate, valid until %s", pair.ends_at)

    def _fail(self, reason: str) -> None:
        self._failures += 1
        if self._failures == _LOOKS_BEFORE_TROUBLE:
            logger.error("the TLS certificate is not renewed, the old one stays: %s", reason)
            self._metrics.renewal_failing.set(1)

    def _succeed(self) -> None:
        if self._failures >= _LOOKS_BEFORE_TROUBLE:
            logger.warning("the files of the TLS certificate can be used again")
        self._failures = 0
        self._metrics.renewal_failing.set(0)

    def _report(self) -> None:
        """Show until when the certificate is valid; log when clients begin to refuse it."""
        pair = self._certificate.pair
        self._metrics.expiry.set(pair.ends_at.timestamp())
        complaint = pair.complaint(self._clock())
        if complaint is not None and complaint != self._complaint:
            path = self._certificate.files.certificate
            logger.warning("clients refuse the TLS certificate %s: it %s", path, complaint)
        self._complaint = complaint


def _appearance(files: TlsFiles) -> object:
    """What changes when a file, or what a link leads to, is replaced or written."""
    looks: list[tuple[int, ...] | None] = []
    for path in files:
        try:
            found = Path(path).stat()
        except OSError:
            looks.append(None)
        else:
            looks.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    return looks
