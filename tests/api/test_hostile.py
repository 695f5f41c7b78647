# SPDX-License-Identifier: Apache-2.0
"""Clients that mean harm, or are broken: slow, silent, many, or gone. What they do to themselves is their affair; the
daemon lives, its memory and its descriptors return to where they were, and everybody else keeps getting right answers."""
import json
import os
import resource
import signal
import socket
import struct
import threading
import time

import pytest
import rawhttp
from rawhttp import (BUDGET, LIVE, PREDICT, SMALL, Client, ask, chunk, figure, may_open, request,
                     wait_for)

IDLE_S = 2
victim = rawhttp.victim_fixture("--idle-timeout-s", "3600")
crowded = rawhttp.victim_fixture("--idle-timeout-s", "3600", "--connections-max", "256")
impatient = rawhttp.victim_fixture("--idle-timeout-s", str(IDLE_S), "--connections-max", "64")

JSON_TYPE = b"Content-Type: application/json"
UPLOAD = request(b"POST", b"/v1/models/m/records?atomic=true", b"Transfer-Encoding: chunked",
                 b"Content-Type: text/csv")
CSV = b"id,label,a,b\n" + b"".join(b"c%d,1,2,3\n" % i for i in range(9))


class Pause:
    """Stops the daemon for the body of the `with`: all that is sent meanwhile arrives at once."""

    def __init__(self, daemon):
        self.process = daemon.process

    def __enter__(self):
        self.process.send_signal(signal.SIGSTOP)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGCONT)


def open_files(daemon):
    try:
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    except PermissionError:
        pytest.skip("the descriptors of a process that is not dumpable are shown to root alone")


# --- clients that leave ---

@pytest.mark.parametrize("sent", [b"", chunk(CSV)[:20], chunk(CSV)],
                         ids=["no body", "part of a chunk", "one chunk of several"])
def test_an_upload_whose_client_left_before_it_was_read_ends_at_once(victim, sent):
    """The end of the stream is there before the server reads: it comes with no event of its own."""
    clients = [Client(victim) for _ in range(8)]
    wait_for(lambda: victim.connections() == 8, "the connections")
    with Pause(victim):
        for c in clients:
            c.send(UPLOAD + sent)
            c.close()
    victim.forget_clients()
    assert ask(victim, request(b"GET", b"/v1/models/m")).json["records"] == 64
    victim.sound()


def test_a_connection_whose_client_left_after_its_last_request_ends_at_once(victim):
    clients = [Client(victim) for _ in range(8)]
    wait_for(lambda: victim.connections() == 8, "the connections")
    with Pause(victim):
        for c in clients:
            c.send(LIVE)
            c.end_sending()
    victim.forget_clients()
    for c in clients:
        assert c.answer().status == 200
        c.close()


def test_a_client_that_ends_its_side_still_gets_its_answers(victim):
    """shutdown(SHUT_WR) after a complete request is legal; with the last answer the connection ends."""
    with Client(victim) as c:
        with Pause(victim):
            c.send((PREDICT + request(b"GET", b"/openapi.json")) * 20)
            c.end_sending()
        for _ in range(20):
            assert c.answer().json["outputs"] == victim.expected
            assert c.answer().json["openapi"]
        c.closed()


def test_requests_that_die_half_way_leave_nothing(victim):
    body = json.dumps({"subjects": ["r1"]}).encode()
    whole = [request(b"POST", b"/v1/erasures", JSON_TYPE, body=body), PREDICT, UPLOAD + chunk(CSV) + chunk(b""),
             request(b"POST", b"/v1/models", JSON_TYPE, body=json.dumps({**SMALL, "name": "n"}).encode())]
    for how in ("close", "reset"):
        clients = [Client(victim) for _ in range(64)]
        for i, c in enumerate(clients):
            data = whole[i % 4]
            c.send(data[:1 + (len(data) - 2) * i // 64])
        for c in clients:
            if how == "reset":
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.close()
        victim.forget_clients()
        victim.sound()
    assert ask(victim, request(b"GET", b"/v1/erasures")).json["items"] == []
    assert len(ask(victim, request(b"GET", b"/v1/models")).json["items"]) == 1
    assert ask(victim, request(b"GET", b"/v1/models/m")).json["records"] == 64


@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_erasure_whose_client_left_before_its_answer_stands(victim, how):
    """The idempotency key finds it: the client asks again, and learns that it was done."""
    subject = f"ghost-{how}"
    body = json.dumps({"subjects": [subject]}).encode()
    data = request(b"POST", b"/v1/erasures", JSON_TYPE, b"Idempotency-Key: key-" + how.encode(), body=body)
    listing = request(b"GET", b"/v1/erasures")

    def erasures():
        return {e["id"] for e in ask(victim, listing).json["items"]}

    before = erasures()
    c = Client(victim)
    wait_for(lambda: victim.connections() == 1, "the connection")
    with Pause(victim):
        c.send(data)
        c.end_sending()
    wait_for(lambda: erasures() != before, "the erasure")
    if how == "reset":
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
    first = erasures() - before
    again = ask(victim, data)
    assert again.headers["idempotency-replayed"] == "true"
    assert {again.json["id"]} == first == erasures() - before
    victim.sound()
    victim.forget_clients()


def test_thousands_of_short_connections_leave_no_descriptor(victim):
    count = 3000
    victim.forget_clients()
    files = open_files(victim)
    for i in range(count):
        c = Client(victim)
        if i % 3 == 0:
            c.send(LIVE)
        if i % 3 == 1:
            c.send(PREDICT[:i % len(PREDICT)])
        if i % 2 == 0:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()
    victim.forget_clients()
    wait_for(lambda: open_files(victim) <= files, "the descriptors to be closed")
    victim.sound()
    figure("short connections", connections=count, descriptors_left=0)


# --- slow clients ---

def drip(c, data, seconds=0.05):
    """A byte at a time until the other side has had enough (true), or all is sent."""
    c.socket.settimeout(seconds)
    for byte in data:
        if not c.send(bytes([byte])):
            return True
        try:
            if not c.more():
                return True
        except TimeoutError:
            continue
        if b"\r\n\r\n" in c.got:
            return True
    return False


DRIPS = {
    "header": (b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nX: ", b"y" * 2000),
    "body": (request(b"POST", b"/v2/models/m/infer", JSON_TYPE, b"Content-Length: 5000"), b" " * 4000),
    "upload": (request(b"POST", b"/v1/models/m/records", b"Content-Type: text/csv",
                       b"Content-Length: 5000"), b" " * 4000),
    "chunks": (UPLOAD, b"1\r\n \r\n" * 1000),
}


def test_what_drips_in_is_cut_off(impatient):
    """Every byte begins a new timeout in the library; a header as a whole, and a body, have one of their own."""
    cut_off = {}

    def attack(name, at_once, slowly):
        with Client(impatient) as c:
            c.send(at_once)
            cut_off[name] = drip(c, slowly)

    threads = [threading.Thread(target=attack, args=(name, *drops)) for name, drops in DRIPS.items()]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert cut_off == dict.fromkeys(DRIPS, True)
    impatient.sound()
    impatient.forget_clients()


def test_clients_that_fall_silent_are_cut_off(impatient):
    clients = []
    for data in (b"", b"G", LIVE[:-2], PREDICT[:-1], UPLOAD, UPLOAD + b"5\r\n", LIVE):
        clients.append(Client(impatient))
        clients[-1].send(data)
    for c in clients:
        c.closed()
        c.close()
    impatient.sound()


def test_clients_that_never_read_hold_nobody_up(impatient):
    """Answers of many megabytes, to windows of a few bytes. Theirs wait; the others' do not."""
    lines = b"".join(b'{"subjects":["never-%d"]}\n' % i for i in range(2000))
    answer = ask(impatient, request(b"POST", b"/v1/erasures:batch", b"Content-Type: application/x-ndjson",
                                    body=lines))
    assert answer.status == 200
    export = request(b"GET", b"/v1/audit", b"Accept: application/x-ndjson")
    deaf = []
    for _ in range(32):
        c = Client(impatient)
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.send(export * 50)
        deaf.append(c)
    for _ in range(20):
        impatient.sound()
    impatient.forget_clients()  # their time is up
    for c in deaf:
        c.close()
    impatient.sound()


# --- many clients ---

def test_uploads_that_are_left_open_take_neither_the_memory_nor_the_others_connections(victim):
    """Each has two batches and a decompressor; so there are 64 at most, and one more has to come again."""
    begin = UPLOAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\nExpect: 100-continue\r\n\r\n")
    clients = [Client(victim) for _ in range(200)]
    statuses = []
    for c in clients:
        c.send(begin)
        answer = c.answer()
        statuses.append(answer.status)
        assert answer.status != 503 or answer.headers["retry-after"] == "1"
    assert statuses.count(100) == 64 and statuses.count(503) == 136
    victim.sound()
    for c in clients:
        c.close()
    victim.forget_clients()
    good = request(b"POST", b"/v1/models/m/evaluate", b"Content-Type: text/csv", body=CSV)
    assert ask(victim, good).status == 200
    figure("open uploads", opened=200, admitted=64, refused_with_retry_after=136)


def test_long_bodies_that_never_end_take_neither_the_memory_nor_the_others_predictions(victim):
    """32 of the largest may be held at a time; short bodies, such as most predictions, do not count."""
    half = b" " * (8 * rawhttp.MIB + 4096)
    head = request(b"POST", b"/v2/models/m/infer", JSON_TYPE, b"Content-Length: %d" % (16 * rawhttp.MIB))
    clients = [Client(victim) for _ in range(28)]
    for c in clients:
        c.send(head + half)

    def one_more_is_refused():
        clients.append(Client(victim))
        clients[-1].send(head + half)
        answer = ask(victim, request(b"POST", b"/v2/models/m/infer", JSON_TYPE, body=half))
        return answer.status == 503 and answer

    answer = wait_for(one_more_is_refused, "a refusal")
    assert answer.headers["retry-after"] == "1"
    assert ask(victim, PREDICT).json["outputs"] == victim.expected
    for c in clients:
        c.close()
    victim.forget_clients()
    victim.sound()
    grown = (victim.peak_rss() - victim.base_rss) / rawhttp.MIB
    assert grown < 640 or victim.sanitized
    figure("long bodies", held=len(clients), peak_grown_mib=round(grown))


def test_five_thousand_idle_connections_disturb_nobody(victim):
    count, asked = 5000, 300
    may_open(count + 200)
    idle, seconds = [], []
    alone = sorted(victim.sound() for _ in range(asked))
    try:
        for i in range(count):
            c = Client(victim)
            c.send([b"", b"GET /", LIVE, PREDICT[:60]][i % 4])
            idle.append(c)
        wait_for(lambda: victim.connections() >= count, "the connections")
        with Client(victim) as c:
            for _ in range(asked):
                began = time.monotonic()
                c.send(PREDICT)
                assert c.answer().json["outputs"] == victim.expected
                seconds.append(time.monotonic() - began)
        grown = (victim.rss() - victim.base_rss) / rawhttp.MIB
        victim.sound(grown_mib=256)
    finally:
        for c in idle:
            c.close()
    victim.forget_clients()
    victim.sound(grown_mib=256)
    seconds.sort()
    figure("idle connections", connections=count, predictions=asked, wrong=0,
           median_ms=round(seconds[asked // 2] * 1e3, 2), p99_ms=round(seconds[asked * 99 // 100] * 1e3, 2),
           median_ms_alone=round(alone[asked // 2] * 1e3, 2), grown_mib=round(grown, 1))


def test_at_the_limit_the_longest_idle_makes_room(make_daemon):
    """Nobody can lock the others out, health checks among them, by holding connections open."""
    limit, count = 64, 300
    daemon = make_daemon("--idle-timeout-s", "3600", "--connections-max", str(limit))
    held = []
    for i in range(count):
        c = Client(daemon)
        c.send([b"", b"GET /", LIVE][i % 3])
        held.append(c)
        if i % 10 == 0:
            assert ask(daemon, LIVE).status == 200
    assert ask(daemon, LIVE).status == 200
    held[0].closed()  # came first
    for c in held:
        c.close()
    assert [line for line in daemon.log if "connections_full" in line]
    figure("connection limit", connections_max=limit, idle_connections=count, others_locked_out=0)


def test_without_descriptors_the_longest_idle_makes_room_too(make_daemon):
    daemon = make_daemon("--idle-timeout-s", "3600")
    pid, files = daemon.process.pid, resource.RLIMIT_NOFILE
    limit = open_files(daemon) + 20
    try:
        before = resource.prlimit(pid, files)
        resource.prlimit(pid, files, (limit, before[1]))
    except PermissionError:
        pytest.skip("the limits of a process that is not dumpable are for root to set")
    held = [Client(daemon) for _ in range(100)]
    for _ in range(5):
        assert ask(daemon, LIVE).status == 200
    resource.prlimit(pid, files, before)
    for c in held:
        c.close()
    assert [line for line in daemon.log if "connections_full reason=EMFILE" in line]


def test_a_connection_with_a_request_in_flight_is_not_the_one_that_makes_room(make_daemon):
    limit = 64
    daemon = make_daemon("--idle-timeout-s", "3600", "--connections-max", str(limit))
    daemon.create(**SMALL)
    daemon.http.close()
    with Client(daemon) as upload:
        upload.send(UPLOAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") )
        assert upload.answer().status == 100
        held = [Client(daemon) for _ in range(3 * limit)]
        assert ask(daemon, LIVE).status == 200
        upload.send(chunk(CSV) + chunk(b""))
        assert upload.answer().json["accepted"] == 9
        for c in held:
            c.close()


def test_where_all_connections_are_busy_the_next_client_waits_for_its_turn(impatient):
    """Half requests on all of them; the clients are cut off one after the other when their time is up."""
    busy = [Client(impatient) for _ in range(64)]
    for c in busy:
        c.send(request(b"POST", b"/v2/models/m/infer", JSON_TYPE, b"Content-Length: 5000") + b"x")
    impatient.sound()
    for c in busy:
        c.closed()
        c.close()


def test_predictions_stay_right_while_everything_else_goes_wrong(crowded):
    """All kinds of hostile clients at once, for a while; every prediction of the others is checked."""
    asked = 100
    stop = threading.Event()
    kinds = [lambda c: c.send(b"\0" * 5000), lambda c: c.send(UPLOAD + chunk(CSV)[:30]),
             lambda c: c.send(LIVE * 50), lambda c: c.send(request(b"GET", b"/" + b"a" * 40000)),
             lambda c: c.send(PREDICT[:-5]), lambda c: c.send(request(b"POST", b"/v1/models", body=b"[" * 9000)),
             lambda c: c.send(UPLOAD + b"zz\r\n"), lambda c: drip(c, LIVE, 0.001)]

    def attack(kind):
        while not stop.is_set():
            try:
                with Client(crowded) as c:
                    kind(c)
            except OSError:
                pass

    threads = [threading.Thread(target=attack, args=(kind,)) for kind in kinds]
    for t in threads:
        t.start()
    try:
        seconds = sorted(crowded.sound(crowded=True) for _ in range(asked))
    finally:
        stop.set()
        for t in threads:
            t.join()
    crowded.forget_clients()
    crowded.sound()
    figure("predictions under attack", attackers=len(kinds), predictions=asked, wrong=0,
           median_ms=round(seconds[asked // 2] * 1e3, 2))


# --- at the end ---

def test_a_stop_does_not_wait_for_clients_that_have_left(make_daemon):
    """A drain gives what is in flight five seconds; those who have left need none of them."""
    daemon = make_daemon("--idle-timeout-s", "3600")
    daemon.create(**SMALL)
    clients = [Client(daemon) for _ in range(8)]
    with Pause(daemon):
        for i, c in enumerate(clients):
            c.send(UPLOAD + chunk(CSV)[:20 * (i % 3)])
            c.close()
        daemon.process.send_signal(signal.SIGTERM)
    daemon.process.wait(BUDGET)
    daemon.stop()
    assert not [line for line in daemon.log if "drain_cut_short" in line]


def test_a_stop_cuts_off_a_client_that_stays_silent(make_daemon):
    daemon = make_daemon("--idle-timeout-s", "3600")
    daemon.create(**SMALL)
    with Client(daemon) as c:
        c.send(UPLOAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
        assert c.answer().status == 100  # it has begun
        c.send(chunk(CSV))
        daemon.stop()
        c.closed()
    assert [line for line in daemon.log if "drain_cut_short requests=1" in line]


def test_clients_that_leave_at_the_moment_of_a_stop_do_not_end_it_badly(make_daemon):
    daemon = make_daemon()
    daemon.create(**SMALL)
    stops = 20
    for _ in range(stops):
        clients = [Client(daemon) for _ in range(16)]
        for i, c in enumerate(clients):
            c.send((UPLOAD + chunk(CSV))[:i * 12])
        daemon.process.send_signal(signal.SIGTERM)
        for c in clients:
            c.close()
        daemon.http.close()
        daemon.process.wait(BUDGET)
        daemon.restart()  # looks at the status
    assert daemon.model("m")["records"] == 0
    figure("stops under fire", stops=stops, clients=16, bad_ends=0)
