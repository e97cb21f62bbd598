"""Bodies and requests that are no questions: refused in fixed words, at once, and nobody notices."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.hostile.conftest import FALLBACK, STREAM, question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hostile.conftest import Attacked

CANARY = "canary-7f3a"
MOST = 3_000_000
GOOD = json.dumps(question()).encode()
IN_JSON = "JSON"


def beside(member: bytes) -> bytes:
    """A good question with one more member."""
    return GOOD[:-1] + b", " + member + b"}"


def with_bytes(name: str, value: bytes) -> bytes:
    """A question, one of whose members is these bytes."""
    rest = json.dumps({key: member for key, member in question().items() if key != name}).encode()
    return rest[:-1] + b', "' + name.encode() + b'": ' + value + b"}"


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "arrays to the bottom": (b"[" * MOST, 400, IN_JSON),
    "objects to the bottom": (b'{"a":' * (MOST // 5), 400, IN_JSON),
    "a member to the bottom": (beside(b'"a": ' + b"[" * 1_000_000 + b"]" * 1_000_000), 400, IN_JSON),
    "a number without end": (beside(b'"a": ' + b"9" * MOST), 400, IN_JSON),
    "a prompt of digits": (with_bytes("prompt", b"9" * 1_000_000), 400, IN_JSON),
    "a prompt that is no number": (with_bytes("prompt", b"NaN"), 400, "prompt"),
    "a prompt that is huge": (with_bytes("prompt", b"1e400"), 400, "prompt"),
    "half a pair": (with_bytes("prompt", rb'"\ud83d"'), 400, IN_JSON),
    "half a pair in a name": (beside(rb'"\udfff": 1'), 400, IN_JSON),
    "half a pair in UTF-8": (with_bytes("prompt", b'"\xed\xa0\x80"'), 400, IN_JSON),
    "no UTF-8": (with_bytes("prompt", b'"\xc3\x28"'), 400, IN_JSON),
    "overlong UTF-8": (with_bytes("prompt", b'"\xc0\xaf"'), 400, IN_JSON),
    "a control character": (with_bytes("prompt", b'"a\x01b"'), 400, IN_JSON),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD, 400, IN_JSON),
    "UTF-16": (GOOD.decode().encode("utf-16"), 400, IN_JSON),
    "two questions": (GOOD + GOOD, 400, IN_JSON),
    "a form": (b"prompt=x&base64_image=" + CANARY.encode(), 400, IN_JSON),
    "a multipart form": (b"--x\r\nContent-Disposition: form-data; name=prompt\r\n\r\nx\r\n--x--", 400, IN_JSON),
    "nothing to be seen": (with_bytes("prompt", rb'"\u200b\u2060\ufeff"'), 400, "prompt"),
    "nothing but NUL": (with_bytes("prompt", rb'"\u0000"'), 400, "prompt"),
    "a session with a line break": (with_bytes("session_id", rb'"canary-7f3a\n"'), 400, "session_id"),
    "a session with a separator": (with_bytes("session_id", rb'"canary-7f3a\u2028"'), 400, "session_id"),
    "a student with NUL": (with_bytes("student_id", rb'"canary-7f3a\u0000"'), 400, "student_id"),
    **{
        f"a giant {name}": (with_bytes(name, b'"' + CANARY.encode() * (MOST // 20) + b'"'), status, name)
        for name, status in (("prompt", 400), ("subject", 400), ("session_id", 400), ("student_id", 400))
    },
    "a giant address": (
        json.dumps({"prompt": "?", "base64_image": "data:image/x" + ";a" * (MOST // 2)}).encode(),
        422,
        "base64_image",
    ),
    "a giant type": (
        json.dumps({"prompt": "?", "base64_image": "data:image/" + "x" * (MOST - 100)}).encode(),
        422,
        "base64_image",
    ),
    "members without end": (b"{" + b",".join(b'"%d":1' % n for n in range(250_000)) + b"}", 400, "prompt"),
    "an array as prompt": (with_bytes("prompt", b"[" + b"1," * 1_000_000 + b"1]"), 400, "prompt"),
}


def processor_seconds(pid: int) -> float:
    """What a process has had of the processor, see proc(5): what else the machine does is not the body's fault."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("path", [STREAM, FALLBACK])
@pytest.mark.parametrize(("sent", "status", "named"), REFUSED.values(), ids=REFUSED)
def test_body_is_refused_and_costs_next_to_nothing(
    service: Attacked, path: str, sent: bytes, status: int, named: str
) -> None:
    before = processor_seconds(service.gateway.pid)
    reply = service.send(sent, path)
    assert processor_seconds(service.gateway.pid) - before < 2
    said = reply.json()
    assert (reply.status_code, said["success"]) == (status, False)
    assert named in said["error"]
    assert CANARY not in reply.text
    assert len(said["error"]) < 300
    assert service.upstream.requests == []


@pytest.mark.parametrize("name", ["session_id", "student_id"])
def test_rule_of_a_name_is_told_in_words(service: Attacked, name: str) -> None:
    said = service.ask(**{name: "a/b"}).json()["error"]
    assert said == f"{name}: At most 128 characters of letters, digits and _ . : -."


def test_compressed_body_is_refused_and_never_inflated(service: Attacked) -> None:
    for packed in (gzip.compress(GOOD), gzip.compress(bytes(500_000_000), 1)):
        reply = service.send(packed, **{"Content-Encoding": "gzip"})
        assert reply.status_code in (400, 415)
        assert reply.json()["code"] == "INVALID_REQUEST"


ACCEPTED: dict[str, bytes] = {
    "another member, deep": beside(b'"a": ' + b"[" * 100 + b"]" * 100),
    "another member, huge": beside(b'"a": 1e400'),
    "another member, long": beside(b'"a": 0.' + b"9" * 1_000_000),
    "another member that is no number": beside(b'"a": -Infinity'),
    "members of the language": beside(b'"__class__": {}, "constructor": {}, "__proto__": {"admin": true}'),
    "white space around it": b" \r\n\t" + GOOD + b"\n" * 100_000,
}


@pytest.mark.parametrize("sent", ACCEPTED.values(), ids=ACCEPTED)
def test_what_does_not_matter_is_ignored(service: Attacked, sent: bytes) -> None:
    assert service.send(sent).status_code == 200


def prompt_sent(service: Attacked) -> Any:
    return service.upstream.requests[-1].json["messages"][-1]["content"][1]["text"]


def test_last_of_two_members_of_a_name_counts_everywhere(service: Attacked) -> None:
    assert service.send(with_bytes("prompt", b'"first", "prompt": "second"')).status_code == 200
    assert prompt_sent(service) == "second"


def test_control_characters_do_not_reach_the_model(service: Attacked) -> None:
    assert service.send(with_bytes("prompt", rb'"\u0000a\u001b[2Jb\u0007\u009b c\n"')).status_code == 200
    assert prompt_sent(service) == "a [2Jb   c"


def chunked(*lines: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(lines)


LAST = b"0\r\n\r\n"
LIES: dict[str, bytes] = {
    "length and chunks": b"Content-Length: 5\r\n" + chunked(b"%x\r\n%b\r\n" % (len(GOOD), GOOD), LAST),
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}",
    "a length below nothing": b"Content-Length: -5\r\n\r\n{}",
    "a length with a sign": b"Content-Length: +2\r\n\r\n{}",
    "a length with an underscore": b"Content-Length: 1_0\r\n\r\n{}",
    "a length of many digits": b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "a length in other digits": "Content-Length: ٣\r\n\r\n{}".encode(),
    "a chunk without a size": chunked(b"zz\r\n{}\r\n", LAST),
    "a chunk below nothing": chunked(b"-2\r\n{}\r\n", LAST),
    "a chunk longer than said": chunked(b"1\r\n{}\r\n", LAST),
    "a chunk shorter than said": chunked(b"5\r\n{}\r\n", LAST),
    "a chunk of many digits": chunked(b"f" * 40 + b"\r\n{}\r\n"),
    "a header with NUL": b"X-A: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a header of two lines": b"X-A: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a space before the colon": b"Content-Length : 2\r\n\r\n{}",
    "a lonely line feed": b"X-A: a\nContent-Length: 2\r\n\r\n{}",
    "a header without end": b"X-A: " + b"a" * 1_000_000,
    "headers without end": b"".join(b"X-%d: a\r\n" % n for n in range(20_000)),
}


@contextlib.contextmanager
def may_be_cut() -> Iterator[None]:
    """The gateway may reset the connection; that it keeps it open until the time-out is not let pass."""
    try:
        yield
    except ConnectionError:
        pass
    except OSError as error:
        if error.errno != errno.ENOTCONN:  # the reset came first; no ConnectionError in Python
            raise


def answer_to(service: Attacked, sent: bytes, *, all_sent: bool = True) -> bytes:
    """Everything that the gateway says to these bytes until it closes; `all_sent` tells it that no more will come."""
    with socket.create_connection(("127.0.0.1", service.gateway.port), timeout=10) as client:
        client.settimeout(10)
        with may_be_cut():  # it need not read to the end
            client.sendall(sent)
            if all_sent:
                client.shutdown(socket.SHUT_WR)
        said = b""
        with may_be_cut():
            while piece := client.recv(65_536):
                said += piece
    return said


@pytest.mark.parametrize("rest", LIES.values(), ids=LIES)
def test_request_that_lies_about_itself_is_refused_or_cut(service: Attacked, rest: bytes) -> None:
    said = answer_to(service, b"POST " + FALLBACK.encode() + b" HTTP/1.1\r\nHost: gateway\r\n" + rest)
    assert said == b"" or said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert len(re.findall(rb"HTTP/1\.1 \d", said)) <= 1
    assert service.upstream.requests == []


NO_REQUESTS = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "a proxy's": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "an address of another host": b"GET http://example.com/nothing HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "a way out": b"GET /docs/assets/../../../../../etc/passwd HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a way out, encoded": b"GET /docs/assets/%2e%2e/%2e%2e%2fetc%2fpasswd HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a way out of the page's files": b"GET /web/../../../../../etc/passwd HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a way out of them, encoded": b"GET /web/%2e%2e/%2e%2e%2fweb_pages.py HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a path with NUL": b"GET /docs/assets/%00 HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a path with a line break": b"GET /%0d%0aX-Forged:%20yes HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "a long path": b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: gateway\r\n\r\n",
    "words": b"hello?\r\n\r\n",
    "bytes": bytes(range(256)) * 64,
}


@pytest.mark.parametrize("sent", NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_what_is_no_request_of_ours_is_refused_in_fixed_words(service: Attacked, sent: bytes) -> None:
    said = answer_to(service, sent)
    assert said == b"" or 300 <= int(said.split(b" ", 2)[1]) < 500
    assert b"root:" not in said
    assert b"x-forged" not in said.lower()
    assert b"Traceback" not in said


def test_answers_names_may_be_anything_and_are_not_found(service: Attacked) -> None:
    for name in ("%ff%fe", "%0a%0d", "%ed%a0%80", "a" * 10_000, "%00", "..%2f..", "*", "{answer_id}", "'; --"):
        for method in ("GET", "DELETE"):
            head = f"{method} /api/ai/answers/{name} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"
            said = answer_to(service, head.encode(), all_sent=False)
            assert said.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))


def test_giant_headers_for_the_answers_are_refused(service: Attacked) -> None:
    for header in ("Last-Event-ID: " + "9" * 5000, "Last-Event-ID: \u0663", "Last-Event-ID: 0x1f", "Last-Event-ID: -0"):
        head = f"GET /api/ai/answers/{'0' * 32} HTTP/1.1\r\nHost: gateway\r\nAccept: text/event-stream\r\n{header}\r\n"
        said = answer_to(service, head.encode() + b"Connection: close\r\n\r\n", all_sent=False)
        assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 "))
