"""Webhooks: only to allowed hosts, signed, tried again until they are taken."""

import asyncio
import hashlib
import hmac
import json
import socket
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from graphflow_server.queue.secrecy import without_secrets
from graphflow_server.queue.webhooks import check_url, is_elsewhere

from graphflow import GraphFlowError


@asynccontextmanager
async def receiver(*statuses):
    """A server that answers with these statuses, then with 200; gives its address and what it has got."""
    got, answers = [], list(statuses)

    async def take(request):
        got.append((request.headers, await request.read()))
        status = answers.pop(0) if answers else 200
        return web.Response(status=status, headers={"Location": "http://127.0.0.1:1/"} if status == 302 else {})

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/hook", got
    finally:
        await runner.cleanup()


async def arrived(got, count):
    while len(got) < count:
        await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("graphflow_server.queue.webhooks.FIRST_PAUSE", 0.05)


def test_the_end_of_a_prompt_is_told_signed_and_once(place, prompt, run):
    async def check():
        async with (
            receiver() as (url, got),
            place.queue(webhook_hosts=(urlsplit(url).netloc,), webhook_secret=b"key") as queue,
        ):
            accepted = await queue.submit(prompt(write="a", webhook=url))
            done = await queue.wait(accepted.prompt_id, 240)
            await arrived(got, 1)
            await asyncio.sleep(0.3)
            assert len(got) == 1
            headers, body = got[0]
            told = json.loads(body)
            assert told["prompt_id"] == accepted.prompt_id and told["state"] == "done"
            assert told["outputs"] == done.outputs and told["event"]["type"] == "execution_success"
            signed = headers["X-GraphFlow-Timestamp"].encode() + b"." + body
            expected = hmac.new(b"key", signed, hashlib.sha256).hexdigest()
            assert headers["X-GraphFlow-Signature"] == f"sha256={expected}"

    run(check())


def test_what_is_not_taken_is_sent_again_under_the_same_delivery_and_redirects_are_not_followed(place, prompt, run):
    async def check():
        async with receiver(500, 302, 503) as (url, got), place.queue(webhook_hosts=(urlsplit(url).netloc,)) as queue:
            await queue.submit(prompt(write="a", webhook=url))
            await arrived(got, 4)
            assert len({headers["X-GraphFlow-Delivery"] for headers, _ in got}) == 1
            await asyncio.sleep(0.3)
            assert len(got) == 4

    run(check())


def test_a_webhook_that_was_not_delivered_is_delivered_after_a_restart(place, prompt, run):
    async def check():
        async with receiver() as (url, got):
            nobody = url.replace("/hook", "/nobody")
            async with place.queue(webhook_hosts=(urlsplit(url).netloc,)) as queue:
                accepted = await queue.submit(prompt(write="a", webhook=nobody))
                await queue.wait(accepted.prompt_id, 240)
                await asyncio.sleep(0.1)
                queue._webhooks._settings = place.settings()  # nothing is allowed any more: it cannot be sent
                move = "UPDATE webhooks SET url = ?"
                await asyncio.wrap_future(queue._store.write(lambda tx: tx.db.execute(move, (url,)).rowcount))
            assert got == []
            async with place.queue(webhook_hosts=(urlsplit(url).netloc,)):
                await arrived(got, 1)

    run(check())


def test_a_webhook_is_forgotten_with_its_prompt_but_not_before_it_is_delivered(place, prompt, run):
    async def check():
        async with receiver(500, 500) as (url, got), place.queue(webhook_hosts=(urlsplit(url).netloc,)) as queue:

            async def noted():
                query = "SELECT count(*) FROM webhooks"
                return await asyncio.wrap_future(queue._store.read(lambda db: db.execute(query).fetchone()[0]))

            accepted = await queue.submit(prompt(write="a", webhook=url))
            await queue.wait(accepted.prompt_id, 240)
            assert await queue.delete_history() == 1 and await noted() == 1
            await arrived(got, 3)
            while await noted():  # until it is written down that it was taken
                await queue.delete_history()
                await asyncio.sleep(0.02)

    run(check())


def test_a_cancelled_prompt_is_told_too(place, prompt, run):
    async def check():
        async with (
            receiver() as (url, got),
            place.queue(webhook_hosts=(urlsplit(url).netloc,), start_paused=True) as queue,
        ):
            accepted = await queue.submit(prompt(write="a", webhook=url))
            await queue.cancel(accepted.prompt_id)
            await arrived(got, 1)
            assert json.loads(got[0][1])["state"] == "cancelled"

    run(check())


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "file:///etc/passwd",
        "ftp://good.example/",
        "http://good.example@127.0.0.1/",
        "http://[::1",
        "//good.example/x",
        "http://good.example.evil.example/",
        "http://user:pw@good.example/",
        "http://good.example:8080/",
        "",
        "http://good.example:99999/",
    ],
)
def test_only_plain_urls_of_allowed_hosts_are_accepted(url):
    with pytest.raises(GraphFlowError):
        check_url(url, ("good.example:443", "good.example:80"))


def test_a_host_can_be_allowed_with_or_without_a_port():
    check_url("https://good.example/x?y", ("good.example",))
    check_url("http://GOOD.example:8080/x", ("good.example:8080",))
    check_url("http://[::1]:80/x", ("::1",))


def test_without_allowed_hosts_a_webhook_is_refused_and_the_hint_names_the_option(place, prompt, run):
    async def check():
        async with place.queue() as queue:
            with pytest.raises(GraphFlowError, match="webhooks are off") as error:
                await queue.submit(prompt(write="a", webhook="https://example.org/x"))
            assert error.value.problems[0].hint == "start the server with --allow-webhooks example.org"

    run(check())


def test_the_secret_is_made_once_and_only_for_the_owner_to_read(place, run):
    async def check():
        for _ in range(2):
            async with place.queue(webhook_hosts=("example.org",)):
                secret = place.root / "state" / "webhook.secret"
                assert len(secret.read_text()) == 64 and secret.stat().st_mode & 0o077 == 0

    run(check())


def test_a_host_that_is_allowed_without_a_port_is_allowed_on_the_usual_port_only():
    check_url("https://good.example:443/x", ("good.example",))
    with pytest.raises(GraphFlowError) as error:
        check_url("http://good.example:22/x", ("good.example",))
    assert error.value.problems[0].hint == "start the server with --allow-webhooks good.example:22"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:127.0.0.1", "0.0.0.0"]
)
def test_addresses_of_this_machine_and_of_its_data_centre_are_not_elsewhere(address):
    assert not is_elsewhere(address) and is_elsewhere("10.0.0.7") and is_elsewhere("2001:db8::1")


def test_a_name_that_leads_to_this_machine_gets_nothing_and_the_log_has_no_path_of_it(
    place, prompt, run, caplog, monkeypatch
):
    """Its owner can let it lead anywhere, at any moment: the address is checked that is connected to."""
    resolve = socket.getaddrinfo

    def rebound(host, *more, **named):
        return resolve("127.0.0.1" if host == "good.example" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)

    async def check():
        async with receiver() as (url, got):
            port = urlsplit(url).port
            async with place.queue(webhook_hosts=(f"good.example:{port}",)) as queue:
                hook = f"http://good.example:{port}/hook?secret=s3cret"
                accepted = await queue.submit(prompt(write="a", webhook=hook))
                await queue.wait(accepted.prompt_id, 240)
                while "not the address of another host" not in caplog.text:
                    await asyncio.sleep(0.02)
            assert not got and f"http://good.example:{port}" in caplog.text and "s3cret" not in caplog.text

    run(check())


@pytest.mark.parametrize(
    "name", ["authtoken", "userpassword", "pwd", "dbPwd", "Cookie", "session", "sessionId", "hf_token"]
)
def test_what_is_named_like_a_secret_is_not_stored(name):
    kept = {"max_token": 75, "tokenizer": "clip", "passthrough": "yes", "keyboard": "us", "seed_key_frame": "a"}
    assert without_secrets({name: "s3cret", "deep": [{name: {"a": "b"}}], **kept}) == {"deep": [{}], **kept}
