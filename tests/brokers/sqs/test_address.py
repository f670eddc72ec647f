"""An address says where Amazon SQS is; what it cannot say is an error that names what it can."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from redrive.brokers.sqs import SqsAddress, parsed
from redrive.clock import SystemClock
from redrive.connections import absolute, connect, file_of, has_file
from redrive.errors import DeclarationError


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("sqs://eu-central-1", SqsAddress(region="eu-central-1")),
        ("sqs://", SqsAddress()),
        (
            "sqs://?endpoint_url=http://127.0.0.1:9324/",
            SqsAddress(endpoint_url="http://127.0.0.1:9324"),
        ),
        (
            "sqs://?endpoint_url=http://127.0.0.1:9324&store_url=http://127.0.0.1:8000",
            SqsAddress(endpoint_url="http://127.0.0.1:9324", store_url="http://127.0.0.1:8000"),
        ),
        (
            "sqs://us-east-1?table=shop&declare=verify&account=123456789012&prefix=test-",
            SqsAddress(region="us-east-1", table="shop", declare="verify", account="123456789012", prefix="test-"),
        ),
        ("sqs://us-east-1?prefix=test-", SqsAddress(region="us-east-1", table="test-redrive", prefix="test-")),
    ],
)
def test_an_address_says_where(address: str, found: SqsAddress) -> None:
    """Its shortest form says the same, and is what `absolute` makes of it."""
    assert parsed(address) == found
    assert parsed(str(found)) == found
    assert absolute(address, Path("/shop")) == str(found)
    assert not has_file(address)


def test_a_store_in_a_file_belongs_into_the_applications_folder() -> None:
    """For an endpoint on this machine; a relative name is made a full one."""
    address = "sqs://?endpoint_url=http://127.0.0.1:9324&store_url=sqlite:store.db"
    assert absolute(address, Path("/shop")).endswith("&store_url=sqlite:/shop/store.db")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("sqs:", "use sqs://REGION"),
        ("sqs:eu-central-1", "use sqs://REGION"),
        ("sqs://eu/x", "use sqs://REGION"),
        ("sqs://EU", "use sqs://REGION"),
        ("sqs://?endpoint=x", "it takes endpoint_url"),
        ("sqs://?table=a&table=b", "says the same twice"),
        ("sqs://?table=ab", "use 3 to 255"),
        ("sqs://?declare=yes", "it is one of create, verify"),
        ("sqs://?account=12", "12 digits"),
        ("sqs://?prefix=a.b", "at most 40"),
        ("sqs://?endpoint_url=localhost:9324", "use http://HOST:PORT"),
        ("sqs://?endpoint_url=http://", "use http://HOST:PORT"),
        ("sqs://?endpoint_url=http://x:99999", "use http://HOST:PORT"),
        ("sqs://?store_url=x", "use http://HOST:PORT"),
        ("sqs://?store_url=sqlite:store.db", "seen by this machine alone"),
        ("sqs://?endpoint_url=https://sqs.example&store_url=sqlite:store.db", "seen by this machine alone"),
    ],
)
def test_what_is_not_known_is_named_with_what_is(address: str, words: str) -> None:
    """Before anything is asked."""
    with pytest.raises(DeclarationError) as caught:
        absolute(address, Path("/"))
    assert repr(address) in str(caught.value)
    assert words in str(caught.value)


def test_credentials_do_not_belong_into_an_address() -> None:
    """And are not shown by the error that says so."""
    with pytest.raises(DeclarationError, match="AWS_ACCESS_KEY_ID") as caught:
        parsed("sqs://?endpoint_url=http://key:secret@localhost:9324")
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "mode"),
    [
        ("sqs://eu-central-1", "verify"),
        ("sqs://?endpoint_url=https://sqs.example.org", "verify"),
        ("sqs://?endpoint_url=http://localhost:9324", "create"),
        ("sqs://?endpoint_url=http://[::1]:9324", "create"),
        ("sqs://?endpoint_url=http://127.0.0.1:9324&declare=verify", "verify"),
        ("sqs://eu-central-1?declare=create", "create"),
    ],
)
def test_queues_are_made_at_an_endpoint_on_this_machine(address: str, mode: str) -> None:
    """Elsewhere only when the address says so."""
    assert parsed(address).mode == mode


def test_a_broker_without_a_file_says_so() -> None:
    """Whoever asks for one is told which brokers have one."""
    with pytest.raises(DeclarationError, match="has no file"):
        file_of("sqs://eu-central-1")


def test_both_kinds_of_address_are_named() -> None:
    """To whoever writes a third."""
    with pytest.raises(DeclarationError, match="use sqlite:FILE or sqs://REGION"):
        connect("amqp://x", SystemClock())


def test_the_client_is_imported_when_it_is_asked_for() -> None:
    """Neither redrive nor the address of a broker brings it along."""
    code = (
        "import sys; import redrive, redrive.connections as c; from pathlib import Path;"
        "c.absolute('sqs://eu-central-1', Path('/'));"
        "sys.exit('botocore' in sys.modules or 'aiobotocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_extra_that_is_missing_is_named() -> None:
    """With the command that installs it."""
    code = (
        "import sys; import importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name, *a: None if name == 'aiobotocore' else find(name, *a);"
        "from redrive.brokers.sqs import SqsAddress, SqsBroker; SqsBroker(SqsAddress())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "aiobotocore is not installed; pip install 'redrive[sqs]'" in done.stderr
