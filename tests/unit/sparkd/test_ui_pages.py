"""Pages over real sockets of loopback: what they say, that they escape, whom their forms obey, how long they are, how they stay live."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from ui_world import SPARK83, FakeMaster, FakeWorker, Served, World, busy_world, serve

from sparkd.coordination.api import SetAside
from sparkd.core.effects import Answer
from sparkd.core.states import MasterStatus
from sparkd.http import live, ui_views
from sparkd.http.faces import NotDurable

EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"

Talk = Callable[[aiohttp.ClientSession, Served], Awaitable[None]]


def with_pages(face: FakeMaster | FakeWorker, talk: Talk) -> None:
    """Serve the face's pages, let `talk` use them."""

    async def whole() -> None:
        served = await serve(face)
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
                await talk(session, served)
        finally:
            await served.close()

    asyncio.run(whole())


def get(face: FakeMaster | FakeWorker, path: str) -> tuple[int, str, dict[str, str]]:
    """Return status, text and headers of one page."""
    got: list[tuple[int, str, dict[str, str]]] = []

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        async with session.get(served.url + path, allow_redirects=False) as answer:
            got.append((answer.status, await answer.text(), dict(answer.headers)))

    with_pages(face, talk)
    return got[0]


def post(face: FakeMaster, path: str, data: dict[str, str], headers: dict[str, str] | None = None) -> tuple[int, str, dict[str, str]]:
    """Return status, text and headers of a form that was sent; Origin "own" is the daemon's."""
    got: list[tuple[int, str, dict[str, str]]] = []

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        sent = {name: served.url if value == "own" else value for name, value in (headers or {}).items()}
        async with session.post(served.url + path, data=data, headers=sent, allow_redirects=False) as answer:
            got.append((answer.status, await answer.text(), dict(answer.headers)))

    with_pages(face, talk)
    return got[0]


class Outline(HTMLParser):
    """Elements of a page, and whether they are closed in order."""

    VOID = frozenset(("meta", "link", "input", "rect", "path", "img", "br"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(text: str) -> Outline:
    """Check what every page keeps to: well-formed, nothing inline, ids once, a name for every field."""
    page = Outline(text)
    assert page.open == []
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for tag, attributes in page.elements:
        assert "style" not in attributes
        assert tag != "style"
        assert not any(name.startswith("on") for name in attributes)
        if tag == "script":
            assert "static/sparkd.js" in (attributes["src"] or "")
        if tag == "th":
            assert "scope" in attributes
        for name in ("href", "src", "action"):
            assert not (attributes.get(name) or "").lower().startswith("javascript")
        if tag in ("section", "table"):
            assert attributes.get("aria-labelledby") in names
    return page


def paths(world: World) -> list[str]:
    cluster = world.cluster
    drivers = [*cluster.drivers, *cluster.completed_drivers]
    applications = [*cluster.applications, *cluster.completed_applications]
    return (
        ["/", "/?find=spark", "/driver/?driverId=none"]
        + [f"/driver/?driverId={each}" for each in drivers]
        + [f"/app/?appId={each}" for each in applications]
    )


def test_every_page_of_a_master() -> None:
    world = busy_world()
    face = FakeMaster(world, aside=[SetAside("driver", "driver-9", "checksum", "/spark/set-aside/driver/driver-9")])

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        for path in paths(world):
            async with session.get(served.url + path) as answer:
                assert answer.status == (404 if "none" in path else 200)
                check(await answer.text())

    with_pages(face, talk)


@pytest.mark.parametrize("path", ["/", "/driver/?driverId=x", "/app/?appId=x"])
def test_every_page_of_a_standby_names_the_leader(path: str) -> None:
    status, text, _ = get(FakeMaster(World(), says=MasterStatus.STANDBY, led_by=SPARK83), path)
    assert status == (200 if path == "/" else 503)
    links = [attributes.get("href") for tag, attributes in check(text).elements if tag == "a"]
    assert SPARK83.web_ui + path in links


def test_a_standby_without_a_leader() -> None:
    _, text, _ = get(FakeMaster(World(), says=MasterStatus.STANDBY), "/")
    assert "nobody is known to lead" in text


def test_what_the_overview_says() -> None:
    _, text, _ = get(FakeMaster(busy_world(), aside=[SetAside("driver", "driver-9", "checksum", "/spark/set-aside/driver/driver-9")]), "/")
    for words in (
        "ALIVE",
        "8589934611",
        "spark://spark82:7077,spark83:7077",
        "http://spark82:6066",
        "big join",
        "No worker is large enough",
    ):
        assert words in text
    for words in ("/spark/set-aside/driver/driver-9", "spark83:2181", "Lease left", "http://spark86:8081/logPage/?driverId="):
        assert words in text


def test_an_empty_cluster_says_what_to_do() -> None:
    _, text, _ = get(FakeMaster(World()), "/")
    assert "sparkd submit -- sleep 60" in text
    assert "sparkd worker spark://spark82:7077,spark83:7077" in text


def test_headers() -> None:
    _, _, headers = get(FakeMaster(World()), "/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.endswith("connect-src 'self' http://spark83:8080")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_values_of_others_are_escaped() -> None:
    world = World()
    worker_id = world.worker("spark84")
    worker = world.cluster.workers[worker_id]
    worker.info = dataclasses.replace(worker.info, host=EVIL)
    driver_id = world.submit("run", EVIL, name=EVIL)
    world.submit("run", EVIL, name=EVIL, cores=99)
    app_id = world.application(EVIL, EVIL)
    face = FakeMaster(world, aside=[SetAside("driver", EVIL, EVIL, EVIL)])

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        for path in (
            "/",
            f"/?find={EVIL}",
            f"/driver/?driverId={driver_id}",
            f"/driver/?driverId={EVIL}",
            f"/app/?appId={app_id}",
            f"/app/?appId={EVIL}",
        ):
            async with session.get(
                served.url + path.split("?")[0], params=dict([path.split("?")[1].split("=", 1)]) if "?" in path else None
            ) as answer:
                text = await answer.text()
                assert "<script>alert" not in text
                assert "<img" not in text
                check(text)

    with_pages(face, talk)


def test_secrets_are_on_no_page() -> None:
    world = World()
    world.worker("spark84")
    driver_id = world.submit("job", "--token", "hidden-1", environment={"PASSWORD": "hidden-2"})
    for path in ("/", f"/driver/?driverId={driver_id}"):
        assert "hidden-" not in get(FakeMaster(world), path)[1]


def test_a_kill_button_kills() -> None:
    world = World()
    world.worker("spark84")
    driver_id = world.submit("sleep", "60")
    face = FakeMaster(world)
    status, _, headers = post(face, "/driver/kill/", {"id": driver_id, "terminate": "true"}, {"Origin": "own"})
    assert (status, headers["Location"]) == (303, f"../?driverId={driver_id}")
    assert face.killed == [("driver", driver_id)]
    assert str(world.cluster.completed_drivers[driver_id].state) == "KILLED"
    app_id = world.application("report")
    assert post(face, "/app/kill", {"id": app_id, "terminate": "true"})[0] == 303
    assert face.killed[-1] == ("app", app_id)


def test_the_way_back_leads_to_the_driver() -> None:
    world = World()
    face = FakeMaster(world)
    driver_ids = [world.submit("sleep", "60") for _ in range(2)]

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        for path, driver_id in zip(("/driver/kill/", "/driver/kill"), driver_ids, strict=True):
            async with session.post(served.url + path, data={"id": driver_id, "terminate": "true"}) as answer:
                assert answer.status == 200
                assert answer.url.path_qs == f"/driver/?driverId={driver_id}"
                assert "KILLED" in await answer.text()

    with_pages(face, talk)


@pytest.mark.parametrize(
    ("data", "headers", "enabled", "status"),
    [
        ({"terminate": "true"}, {"Origin": "http://evil.example"}, True, 403),
        ({"terminate": "true"}, {"Origin": "own", "Sec-Fetch-Site": "cross-site"}, True, 403),
        ({"terminate": "true"}, {"Origin": "own"}, False, 403),
        ({"terminate": "false"}, {"Origin": "own"}, True, 400),
        ({}, {"Origin": "own"}, True, 400),
        ({"terminate": "true", "more": "x" * 20_000}, {"Origin": "own"}, True, 400),
    ],
)
def test_a_kill_that_is_refused(data: dict[str, str], headers: dict[str, str], enabled: bool, status: int) -> None:
    world = World()
    world.worker("spark84")
    face = FakeMaster(world)
    face.settings = dataclasses.replace(face.settings, web=dataclasses.replace(face.settings.web, kill_enabled=enabled))
    driver_id = world.submit("sleep", "60")
    assert post(face, "/driver/kill/", {"id": driver_id, **data}, headers)[0] == status
    assert face.killed == []
    assert str(world.cluster.drivers[driver_id].state) == "RUNNING"
    assert ("driver/kill" in get(face, "/")[1]) is enabled


def test_a_kill_that_cannot_be_done() -> None:
    world = World()
    assert post(FakeMaster(world), "/driver/kill/", {"id": "none", "terminate": "true"})[0] == 409
    standby = FakeMaster(world, says=MasterStatus.STANDBY, led_by=SPARK83)
    status, text, _ = post(standby, "/driver/kill/", {"id": "none", "terminate": "true"})
    assert status == 503
    assert "Current state is not alive: STANDBY" in text

    class Full(FakeMaster):
        async def kill_driver(self, driver_id: str, give_up: bool = False) -> Answer:
            raise NotDurable("The disk is full.")

    status, text, _ = post(Full(world), "/driver/kill/", {"id": "none", "terminate": "true"})
    assert status == 503
    assert "The disk is full." in text


def test_a_get_kills_nothing() -> None:
    face = FakeMaster(busy_world())
    for path in ("/driver/kill/", "/app/kill/", "/workers/kill/"):
        assert get(face, f"{path}?id=x&terminate=true&host=spark84")[0] == 405
    assert face.killed == []
    assert face.decommissioned == []


def test_decommission() -> None:
    face = FakeMaster(World())
    assert post(face, "/workers/kill/?host=spark84&host=spark85", {})[0] == 200
    assert face.decommissioned == ["spark84", "spark85"]
    assert post(face, "/workers/kill", {"host": "nowhere"})[0] == 404
    assert post(face, "/workers/kill", {})[0] == 400
    assert post(face, "/workers/kill?host=spark84", {}, {"Origin": "http://evil.example"})[0] == 403
    assert post(face, "/workers/kill?host=spark84", {}, {"X-Forwarded-For": "10.0.0.1"})[0] == 405
    face.settings = dataclasses.replace(face.settings, web=dataclasses.replace(face.settings.web, decommission_allowed="DENY"))
    assert post(face, "/workers/kill?host=spark84", {})[0] == 405
    assert face.decommissioned == ["spark84", "spark85", "nowhere"]


def test_a_thousand_workers() -> None:
    world = World()
    for number in range(1000):
        world.worker(f"host{number:04}")
    face = FakeMaster(world)

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        seen: list[str] = []
        path = "/"
        while path:
            async with session.get(served.url + path) as answer:
                text = await answer.text()
            assert len(text) < 2_000_000
            page = check(text)
            rows = [str(attributes["data-key"]) for tag, attributes in page.elements if tag == "tr" and "data-key" in attributes]
            assert len(rows) <= ui_views.PAGE_ROWS
            seen += rows
            following = [str(attributes["href"]) for tag, attributes in page.elements if tag == "a" and attributes.get("rel") == "next"]
            path = "/" + following[0] if following else ""
        assert len(seen) == len(set(seen)) == 1000

    with_pages(face, talk)


def test_a_page_that_was_made_before_the_lease_ended_is_not_sent() -> None:
    """The process is paused while a page is made: its first word after that is STANDBY."""
    world = busy_world()

    class Paused(FakeMaster):
        def coordination(self) -> Any:
            self.says = MasterStatus.STANDBY
            return super().coordination()

    _, text, _ = get(Paused(world, led_by=SPARK83), "/")
    assert "This master stands by" in text
    assert "big join" not in text


def test_visitors_share_a_page_but_never_an_old_truth() -> None:
    world = busy_world()
    made: list[int] = []

    class Counting(FakeMaster):
        def coordination(self) -> Any:
            made.append(1)
            return super().coordination()

    face = Counting(world)

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        for _ in range(5):
            async with session.get(served.url) as answer:
                assert "big join" in await answer.text()
        assert len(made) < 5
        face.says, face.led_by = MasterStatus.STANDBY, SPARK83
        async with session.get(served.url) as answer:
            assert "big join" not in await answer.text()

    with_pages(face, talk)


def test_static_files() -> None:
    face = FakeMaster(World())

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        async with session.get(served.url) as answer:
            page = check(await answer.text())
        links = [str(attributes.get("href") or attributes.get("src")) for tag, attributes in page.elements if tag in ("link", "script")]
        assert len(links) == 3
        for link in links:
            async with session.get(served.url + "/" + link.removeprefix("./")) as answer:
                assert answer.status == 200
                assert "immutable" in answer.headers["Cache-Control"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        async with session.get(served.url + "/static/sparkd.css?v=old") as answer:
            assert answer.headers["Cache-Control"] == "no-cache"
        for name in ("none.css", "..%2Fui.py", "%2e%2e%2fui.py"):
            async with session.get(served.url + "/static/" + name) as answer:
                assert answer.status == 404

    with_pages(face, talk)


def test_links_without_the_slash() -> None:
    status, _, headers = get(FakeMaster(World()), "/driver?driverId=a%26b")
    assert (status, headers["Location"]) == (302, "driver/?driverId=a%26b")


# --- worker


def test_pages_of_a_worker() -> None:
    face = FakeWorker()
    status, text, _ = get(face, "/")
    page = check(text)
    assert status == 200
    links = [str(attributes.get("href")) for tag, attributes in page.elements if tag == "a"]
    assert "logPage/?driverId=driver-20261121093000-0007&attempt=2&logType=stdout" in links
    assert "logPage/?appId=app-20261121093500-0001&executorId=0&logType=stderr" in links
    assert "http://spark82:8080/driver/?driverId=driver-20261121093000-0007" in links
    assert "SIGKILL" in text
    assert "hunter2" not in text
    assert "never-shown" not in text
    text = get(FakeWorker(says="DISCONNECTED"), "/")[1]
    assert "keeps trying spark82:7077, spark83:7077" in text
    assert "The disk is full." in text


def test_paging_through_a_log() -> None:
    face = FakeWorker()

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        read: list[bytes] = []
        path = "?driverId=driver-20261121093000-0007&attempt=2&logType=stdout&offset=0&byteLength=100000"
        while path:
            async with session.get(served.url + "/logPage/" + path) as answer:
                page = check(await answer.text())
            async with session.get(served.url + "/log/" + path) as answer:
                assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
                read.append(await answer.read())
                assert answer.headers["X-Log-Total"] == str(len(face.log))
            following = [str(attributes["href"]) for tag, attributes in page.elements if tag == "a" and attributes.get("rel") == "next"]
            path = following[0] if following else ""
        assert b"".join(read) == face.log

    with_pages(face, talk)


def test_a_log_page_begins_at_the_end() -> None:
    _, text, _ = get(FakeWorker(), "/logPage/?driverId=driver-20261121093000-0007&logType=stdout")
    assert "line 19999 of a log" in text
    assert "line 00000 of a log" not in text
    assert 'id="follow"' in text


def test_a_log_is_escaped() -> None:
    _, text, _ = get(FakeWorker(log=EVIL.encode()), "/logPage/?driverId=driver-20261121093000-0007")
    assert "<script>alert" not in text
    check(text)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("driverId=none", 404),
        ("driverId=../../etc&logType=stdout", 404),
        ("driverId=driver-20261121093000-0007&logType=../../passwd", 400),
        ("driverId=driver-20261121093000-0007&attempt=7", 404),
        ("driverId=driver-20261121093000-0007&offset=99999999999999", 200),
        ("driverId=driver-20261121093000-0007&offset=-5&byteLength=99999999999", 200),
        ("appId=app-20261121093500-0001", 400),
        ("appId=app-20261121093500-0001&executorId=0", 200),
        ("appId=app-20261121093500-0001&executorId=%C2%B2", 400),
    ],
)
def test_which_log(query: str, status: int) -> None:
    for page in ("/logPage/", "/log/"):
        got, text, headers = get(FakeWorker(), f"{page}?{query}")
        assert got == status
        assert headers["X-Content-Type-Options"] == "nosniff"
        if page == "/logPage/":
            check(text)
        assert len(text) < 1_100_000


# --- live


async def _events(answer: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async for line in answer.content:
        if line.startswith(b"data: "):
            found.append(json.loads(line[6:]))
            if len(found) == count:
                break
    return found


def test_live_tells_of_a_change_and_of_the_end_of_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "BEAT_S", 0.3)
    world = World()
    face = FakeMaster(world)

    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        async with session.get(f"{served.url}/live?since={world.version}") as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            waiting = asyncio.ensure_future(_events(answer, 1))
            await asyncio.sleep(0.05)
            world.worker("spark84")
            assert [event["version"] for event in await waiting] == [world.version]
            face.says, face.led_by = MasterStatus.STANDBY, SPARK83
            face.others = ()
            (event,) = await _events(answer, 1)  # nothing is counted up: the beat tells it
            assert event["status"] == "STANDBY"
            assert event["masters"] == face.me.url
            assert event["leader"] == {"name": "spark83:7077", "web_ui": "http://spark83:8080"}

    with_pages(face, talk)


@pytest.mark.parametrize("since", ["0", "", "999999", "-1", "x", "9" * 40])
def test_live_answers_at_once_when_the_page_is_of_another_version(since: str) -> None:
    async def talk(session: aiohttp.ClientSession, served: Served) -> None:
        async with asyncio.timeout(live.BEAT_S), session.get(f"{served.url}/live?since={since}") as answer:
            assert len(await _events(answer, 1)) == 1

    with_pages(FakeMaster(World()), talk)


def test_listeners_are_bounded_and_end_with_the_daemon() -> None:
    world = World()

    async def whole() -> None:
        app = web.Application()
        live.add_live(app, lambda: {"version": world.version}, world.changed, listeners=2)
        runner = web.AppRunner(app, shutdown_timeout=60)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession() as session:
            url = f"http://{host}:{port}/live"
            first, second = await session.get(url), await session.get(url)
            async with session.get(url) as third:
                assert third.status == 503
                assert third.headers["Retry-After"] == "5"
            second.close()
            async with asyncio.timeout(4 * live.BEAT_S):  # its end is noticed with the next event
                while (await session.get(url)).status != 200:
                    world.touch()
                    await asyncio.sleep(0.05)
            async with asyncio.timeout(20):
                await runner.cleanup()
            assert first.status == 200

    asyncio.run(whole())


def test_other_masters_pages_may_ask_who_leads() -> None:
    _, text, headers = get(FakeMaster(World(), says=MasterStatus.STANDBY, led_by=SPARK83), "/live/leader")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert json.loads(text)["leader"]["web_ui"] == SPARK83.web_ui
    assert "Access-Control-Allow-Origin" not in get(FakeMaster(World()), "/")[2]
