"""Files of TLS that are wrong, encrypted, endless or over, at a start and while it is followed."""

import asyncio
import fcntl
import logging
import os
import pty
import shutil
import subprocess
import termios
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters.errors import InvalidInput
from service.certificate import Certificate, Renewal
from service.grpc import check_pair
from service.metrics import Metrics
from service.tls import TlsFiles, read_pair
from tests.attacks.certificates import FUTURE, PAST, RSA, Made, make_certificate, openssl
from tests.attacks.conftest import RecordAttack
from tests.integration.server import ROOT, SERVE, environment, free_port, make_home

SECP256K1 = ("ec", "-pkeyopt", "ec_paramgen_curve:secp256k1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_certificate(tmp_path_factory.mktemp("tls"), "own")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("others")
    return {
        "ec": make_certificate(folder, "ec"),
        "rsa": make_certificate(folder, "rsa", RSA),
        "past": make_certificate(folder, "past", validity=PAST),
        "future": make_certificate(folder, "future", validity=FUTURE),
        "odd": make_certificate(folder, "odd", SECP256K1),
    }


def wrong_files(folder: Path, made: Made, others: dict[str, Made]) -> dict[str, tuple[Path, Path]]:
    """Pairs of files that are no use, by what a refusal says of them."""
    certificate, key = made.certificate, made.key
    openssl(folder, "x509", "-in", str(certificate), "-outform", "der", "-out", "certificate.der")
    openssl(folder, "pkey", "-in", str(key), "-outform", "der", "-out", "key.der")
    encryption = ("-aes256", "-passout", "pass:x")
    openssl(folder, "pkey", "-in", str(key), *encryption, "-out", "pkcs8.key")
    openssl(folder, "ec", "-in", str(key), *encryption, "-out", "old.key")
    (folder / "empty").touch()
    (folder / "large").write_bytes(os.urandom(10 * 2**20))
    (folder / "rubbish").write_text("no PEM")
    (folder / "cut").write_bytes(certificate.read_bytes()[:300])
    (folder / "cut.key").write_bytes(key.read_bytes()[:100])
    odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    (folder / "chain").write_text(certificate.read_text() + odd)
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "dangling").symlink_to(folder / "nowhere")
    return {
        "not the one of the first": (certificate, others["ec"].key),
        "not the one of the first certificate": (certificate, others["rsa"].key),
        "swapped": (key, certificate),
        "may be DER": (folder / "certificate.der", key),
        "no private key in PEM; it may be DER": (certificate, folder / "key.der"),
        "encrypted": (certificate, folder / "pkcs8.key"),
        "is encrypted": (certificate, folder / "old.key"),
        "empty": (folder / "empty", key),
        "no private key in PEM; it is empty": (certificate, folder / "empty"),
        "more than": (folder / "large", key),
        "more than 1048576 bytes": (certificate, folder / "large"),
        "no certificate in PEM": (folder / "rubbish", key),
        "no private key": (certificate, folder / "rubbish"),
        "no certificate": (folder / "cut", key),
        "OpenSSL says": (certificate, folder / "cut.key"),
        "lib": (folder / "chain", key),
        "not a regular file": (folder / "pipe", key),
        "is not a regular file": (certificate, folder / "pipe"),
        "regular file": (Path("/dev/zero"), key),
        "it is not": (folder, key),
        "Too many levels": (folder / "loop", key),
        "No such file": (certificate, folder / "dangling"),
    }


def test_files_that_are_no_use_are_named_at_once(
    tmp_path: Path, made: Made, others: dict[str, Made], record_attack: RecordAttack
) -> None:
    files, longest, said = wrong_files(tmp_path, made, others), 0.0, dict[str, str]()
    for expected, (certificate, key) in files.items():
        started = time.monotonic()
        with pytest.raises(InvalidInput) as refused:
            read_pair(TlsFiles(str(certificate), str(key)))
        longest = max(longest, time.monotonic() - started)
        said[expected] = str(refused.value)
    record_attack(attempts=len(files), figure=f"longest look at a file {longest:.2f} s")
    for expected, (certificate, key) in files.items():
        assert expected in said[expected]
        assert str(certificate) in said[expected] or str(key) in said[expected]
    assert longest < 5


def test_an_encrypted_key_asks_no_terminal_and_ends_the_start(
    tmp_path: Path, made: Made, record_attack: RecordAttack
) -> None:
    home, _ = make_home(tmp_path)
    encrypted = tmp_path / "encrypted.key"
    openssl(tmp_path, "pkey", "-in", str(made.key), "-aes256", "-passout", "pass:x", "-out",
            str(encrypted))  # fmt: skip
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    variables = environment(
        home, port=free_port(), grpc_port=0, tls_certificate=made.certificate, tls_key=encrypted
    )
    started = time.monotonic()
    with subprocess.Popen(
        SERVE,
        cwd=ROOT,
        env=variables,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=take_terminal,
    ) as process:
        try:
            said, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    os.close(theirs)
    os.close(ours)
    record_attack(attempts=1, figure=f"refused within {time.monotonic() - started:.1f} s")
    assert process.returncode == 1
    assert b"is encrypted" in said
    assert b"pass phrase" not in said


def test_keys_that_one_port_alone_knows_are_refused(others: dict[str, Made]) -> None:
    for name in ("ec", "rsa"):
        check_pair(read_pair(TlsFiles(*map(str, others[name][:2]))))
    with pytest.raises(InvalidInput, match="P-256"):
        check_pair(read_pair(TlsFiles(*map(str, others["odd"][:2]))))


class Followed(NamedTuple):
    """A certificate whose files are followed by hand, and what it shows."""

    files: TlsFiles
    certificate: Certificate
    renewal: Renewal
    metrics: Metrics

    def put(self, certificate: Path, key: Path) -> None:
        """Put a copy of another pair in place of the files, one after the other."""
        for source, target in zip((certificate, key), map(Path, self.files), strict=True):
            copy = target.with_suffix(".new")
            shutil.copyfile(source, copy)
            copy.rename(target)

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"headstock_tls_{name}")


Follow = Callable[[Path, Path], Followed]


@pytest.fixture
def follow(tmp_path: Path) -> Follow:
    def follow(certificate: Path, key: Path) -> Followed:
        files = TlsFiles(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"))
        for source, target in zip((certificate, key), files, strict=True):
            shutil.copyfile(source, target)
        used, metrics = Certificate(files), Metrics()
        return Followed(files, used, Renewal(used, metrics.tls(), check_pair), metrics)

    return follow


async def looks(renewal: Renewal, times: int) -> None:
    for _ in range(times):
        await renewal.look()


async def test_what_is_no_use_leaves_the_old_pair_and_is_said_once(
    tmp_path: Path,
    made: Made,
    others: dict[str, Made],
    follow: Follow,
    record_attack: RecordAttack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    followed = follow(made.certificate, made.key)
    old = followed.certificate.pair
    await followed.renewal.look()
    small = tmp_path / "wrong"
    small.mkdir()
    wrong = [
        (certificate, key)
        for certificate, key in wrong_files(small, made, others).values()
        if certificate.is_file() and key.is_file()
    ]
    wrong += [others[name][:2] for name in ("past", "future", "odd")]
    record_attack(attempts=len(wrong))
    for certificate, key in wrong:
        caplog.clear()
        followed.put(certificate, key)
        await looks(followed.renewal, 2)
        assert not caplog.records  # it may be the middle of a swap
        await looks(followed.renewal, 3)
        assert [each.levelname for each in caplog.records] == ["ERROR"]
        assert followed.value("renewal_failing") == 1
        assert followed.certificate.pair is old
        followed.put(made.certificate, made.key)
        await followed.renewal.look()
        assert followed.value("renewal_failing") == 0
        assert "can be used again" in caplog.text
    for missing in map(Path, followed.files):
        missing.unlink()
    os.mkfifo(followed.files.key)
    await looks(followed.renewal, 3)
    assert followed.value("renewal_failing") == 1
    assert followed.certificate.pair is old


async def test_a_pair_that_is_sound_is_taken_over(
    made: Made, others: dict[str, Made], follow: Follow
) -> None:
    followed = follow(made.certificate, made.key)
    for name in ("rsa", "ec"):
        followed.put(others[name].certificate, made.key)  # half of the swap
        await followed.renewal.look()
        assert followed.value("renewal_failing") == 0
        followed.put(others[name].certificate, others[name].key)
        await followed.renewal.look()
        assert followed.certificate.pair.certificate == others[name].certificate.read_bytes()


async def test_dates_are_shown_and_a_certificate_that_is_over_is_named(
    others: dict[str, Made], follow: Follow, caplog: pytest.LogCaptureFixture
) -> None:
    followed = follow(*others["past"][:2])
    followed.renewal.start()
    await asyncio.sleep(0)
    assert "expired on 2021-01-01 00:00:00 UTC" in caplog.text
    ends_at = datetime(2021, 1, 1, tzinfo=UTC).timestamp()
    assert followed.value("certificate_expiry_timestamp_seconds") == ends_at
    await followed.renewal.look()
    await followed.renewal.stop()
    assert len(caplog.records) == 1
    followed.put(*others["future"][:2])  # no worse than what there is
    caplog.set_level(logging.WARNING)
    await followed.renewal.look()
    assert "is not valid before 2098-01-01 00:00:00 UTC" in caplog.text
    followed.put(*others["ec"][:2])
    await followed.renewal.look()
    assert followed.certificate.pair.complaint(datetime.now(UTC)) is None
