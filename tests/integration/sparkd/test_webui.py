"""The web UI in a real browser: Debian's Chromium, driven by Playwright. First over faces in this process, then over a real cluster."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from missing import missing
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit" / "sparkd"))

from ui_world import FakeMaster, FakeWorker, Served, World, busy_world, serve

from sparkd.coordination.api import MasterAddress
from sparkd.core import events
from sparkd.core.states import MasterStatus
from sparkd.up import LocalCluster, Shape

T = TypeVar("T")

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
)
#: ms. Nothing here is a measurement: a busy machine may take this long.
PATIENCE_MS = 30_000

#: Returns what is hard to read: text on its background with a contrast below 4.5 (WCAG 2.1, 1.4.3), as "words: ratio".
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parse = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const data = canvas.getImageData(0, 0, 1, 1).data;
    return [...data].map((value) => value / 255);
  };
  const luminance = ([r, g, b]) => [[r, .2126], [g, .7152], [b, .0722]]
    .reduce((sum, [v, weight]) => sum + weight * (v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4), 0);
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.nodeValue.trim()).join(" ");
    if (!words.trim() || !element.checkVisibility()) continue;
    let behind = element;
    while (behind && parse(getComputedStyle(behind).backgroundColor)[3] < 1) behind = behind.parentElement;
    const colours = [getComputedStyle(element).color, getComputedStyle(behind || document.body).backgroundColor];
    const two = colours.map((colour) => luminance(parse(colour)));
    const ratio = (Math.max(...two) + .05) / (Math.min(...two) + .05);
    if (ratio < 4.5) found.push(`${words}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


class Loop:
    """An event loop in a thread: the browser's driver keeps the main one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._served: list[Served] = []

    def serve(self, face: FakeMaster | FakeWorker) -> Served:
        """Serve a face; its address becomes the one that was bound."""
        served = asyncio.run_coroutine_threadsafe(serve(face), self._loop).result(20)
        self._served.append(served)
        if isinstance(face, FakeMaster):
            face.me = MasterAddress("127.0.0.1", served.port, served.url)
        return served

    def do(self, change: Callable[[], T]) -> T:
        """Change what a face says, on the loop."""

        async def run() -> T:
            return change()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(20)

    def end(self, served: Served) -> None:
        """Let a server die."""
        self._served.remove(served)
        asyncio.run_coroutine_threadsafe(served.close(), self._loop).result(20)

    def close(self) -> None:
        for served in list(self._served):
            self.end(served)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)


@pytest.fixture
def loop() -> Iterator[Loop]:
    here = Loop()
    yield here
    here.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """One Chromium with an empty profile for all tests of this module."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        missing("no Chromium: apt-get install chromium, or set CHROMIUM to one")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=chromium,
            headless=True,
            args=ARGUMENTS.split(),
            viewport={"width": 1280, "height": 800},
        )
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A tab. What the browser complains of (a script's error, something that the security policy refused) fails the test."""
    tab = browser.new_page()
    complaints: list[str] = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
    yield tab
    tab.close()
    assert complaints == []


def mark(page: Page) -> None:
    """Note that this is the page as it was loaded."""
    page.evaluate("window.loadedOnce = true")


def is_marked(page: Page) -> bool:
    return bool(page.evaluate("window.loadedOnce === true"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_is_legible(page: Page, loop: Loop, width: int, scheme: str) -> None:
    world = busy_world()
    master, worker = loop.serve(FakeMaster(world)), loop.serve(FakeWorker())
    standby = loop.serve(FakeMaster(World(), says=MasterStatus.STANDBY, led_by=MasterAddress("spark83", 7077, "http://spark83:8080")))
    page.set_viewport_size({"width": width, "height": 740})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    driver_id, app_id = next(iter(world.cluster.drivers)), next(iter(world.cluster.applications))
    urls = [master.url, f"{master.url}/driver/?driverId={driver_id}", f"{master.url}/app/?appId={app_id}", f"{master.url}/app/?appId=none"]
    urls += [standby.url, worker.url, f"{worker.url}/logPage/?driverId=driver-20261121093000-0007"]
    for url in urls:
        page.goto(url)
        expect(page.locator("#live")).to_have_text("live")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, url
        assert page.evaluate(CONTRAST) == [], url
        assert page.locator("h1").count() == 1
        for button in page.get_by_role("button").all():
            assert button.get_attribute("aria-label") or button.inner_text()


def test_a_change_comes_by_itself_and_leaves_alone_what_is_the_same(page: Page, loop: Loop) -> None:
    world = busy_world()
    served = loop.serve(FakeMaster(world))
    for _ in range(20):  # the search is there for long tables only
        world.submit("sleep", "1")
    page.goto(served.url)
    mark(page)
    page.locator("#find").fill("half a wor")
    row = page.locator("tr[data-key]", has_text="spark86:41000").first
    row.evaluate("row => row.wasHere = true")
    driver_id = loop.do(lambda: world.submit("sleep", "61", name="the newcomer"))
    loop.do(lambda: world.worker("spark99"))
    expect(page.locator("#workers")).to_contain_text("5")
    expect(page.get_by_text("spark99:41000")).to_be_visible()
    expect(page.get_by_text(driver_id).first).to_be_visible()
    assert page.locator("#find").input_value() == "half a wor"
    assert page.evaluate("document.activeElement.id") == "find"
    assert row.evaluate("row => row.wasHere === true")
    assert is_marked(page)


def test_a_driver_is_killed_by_its_button_with_the_keyboard(page: Page, loop: Loop) -> None:
    world = World()
    world.worker("spark84")
    driver_id = world.submit("sleep", "60")
    face = FakeMaster(world)
    page.goto(loop.serve(face).url)
    button = page.get_by_role("button", name=f"Kill driver {driver_id}")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(driver_id)
    page.keyboard.press("Enter")  # Cancel has the focus
    expect(dialog).to_have_count(0)
    assert face.killed == []
    button.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(driver_id)
    expect(page.locator(".headline .state")).to_have_text("KILLED")
    assert face.killed == [("driver", driver_id)]


def test_without_scripts_everything_is_there(browser: BrowserContext, loop: Loop) -> None:
    world = World()
    world.worker("spark84")
    driver_id = world.submit("sleep", "60")
    url = loop.serve(FakeMaster(world)).url
    tab = browser.new_page()
    try:
        tab.route("**/*.js*", lambda route: route.abort())
        tab.goto(url)
        tab.get_by_role("button", name=f"Kill driver {driver_id}").click()
        expect(tab.locator(".headline .state")).to_have_text("KILLED")
    finally:
        tab.close()


def test_another_site_cannot_kill(page: Page, loop: Loop) -> None:
    world = World()
    world.worker("spark84")
    driver_id = world.submit("sleep", "60")
    face = FakeMaster(world)
    served = loop.serve(face)
    page.route(
        "http://evil.localhost:9/**",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"<form method=post action={served.url}/driver/kill/><input name=id value={driver_id}>"
            "<input name=terminate value=true></form>"
            "<script>document.forms[0].submit()</script>",
        ),
    )
    page.goto("http://evil.localhost:9/")
    expect(page.locator("h1")).to_have_text("Not from here")
    assert face.killed == []


class Pair:
    """A leader and a standby."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.world = World()
        self.world.worker("spark84")
        self.driver_id = self.world.submit("sleep", "60")
        self.faces = [FakeMaster(self.world), FakeMaster(World(), says=MasterStatus.STANDBY)]
        self.served = [loop.serve(face) for face in self.faces]
        first, second = (face.me for face in self.faces)
        for face in self.faces:
            face.others = (first, second)
        self.faces[1].led_by = first

    def fail_over(self) -> None:
        """The second leads now, with the same cluster."""

        def change() -> None:
            old, new = self.faces
            self.world, new.world = World(), self.world
            old.world, old.says, old.led_by = self.world, MasterStatus.STANDBY, new.me
            new.says, new.led_by = MasterStatus.ALIVE, None
            for face in self.faces:
                face.world.touch()

        self.loop.do(change)


def test_a_page_follows_a_failover(page: Page, loop: Loop) -> None:
    pair = Pair(loop)
    first, second = pair.served
    page.goto(f"{first.url}/driver/?driverId={pair.driver_id}")
    mark(page)
    expect(page.locator(".headline .state")).to_have_text("RUNNING")
    pair.fail_over()
    notice = page.locator("#notice")
    expect(notice).to_contain_text("This master does not lead any more.")
    assert is_marked(page)
    notice.get_by_role("link").click()
    page.wait_for_url(f"{second.url}/driver/?driverId={pair.driver_id}")
    expect(page.locator(".headline .state")).to_have_text("RUNNING")
    expect(page.locator("#notice")).to_be_hidden()


def test_a_standby_that_comes_is_shown(page: Page, loop: Loop) -> None:
    face = FakeMaster(World(), others=())
    page.goto(loop.serve(face).url)
    expect(page.locator(".master")).to_have_count(1)
    newcomer = MasterAddress("127.0.0.1", 1, "http://127.0.0.1:1")

    def join() -> None:
        face.others = (newcomer,)  # the version stays

    loop.do(join)
    expect(page.locator(".master")).to_have_count(2)


def test_a_standbys_page_becomes_the_leaders(page: Page, loop: Loop) -> None:
    pair = Pair(loop)
    page.goto(pair.served[1].url)
    mark(page)
    expect(page.locator(".headline .state")).to_have_text("STANDBY")
    pair.fail_over()
    expect(page.locator(".headline .state")).to_have_text("ALIVE")
    expect(page.get_by_text("spark84:41000")).to_be_visible()
    assert is_marked(page)


def test_the_page_of_a_dead_leader_finds_the_next_one(page: Page, loop: Loop) -> None:
    pair = Pair(loop)
    page.goto(pair.served[0].url)
    expect(page.locator("#live")).to_have_text("live")
    loop.end(pair.served[0])
    notice = page.locator("#notice")
    expect(notice).to_contain_text("This master does not answer")
    expect(notice.get_by_role("link")).to_have_count(0)
    expect(page.locator("#live")).to_have_text("not live")
    pair.fail_over()
    expect(notice.get_by_role("link")).to_be_visible()
    page.locator("#follow-leader").click(no_wait_after=True)  # it goes at once
    page.wait_for_url(f"{pair.served[1].url}/#follow")
    expect(page.locator(".headline .state")).to_have_text("ALIVE")


def test_following_goes_on_by_itself(page: Page, loop: Loop) -> None:
    pair = Pair(loop)
    page.goto(pair.served[0].url + "/#follow")
    expect(page.locator("#live")).to_have_text("live")
    pair.fail_over()
    page.wait_for_url(f"{pair.served[1].url}/#follow")
    expect(page.locator(".headline .state")).to_have_text("ALIVE")


def test_the_end_of_a_growing_log(page: Page, loop: Loop) -> None:
    face = FakeWorker(log=b"first\n")
    page.goto(loop.serve(face).url + "/logPage/?driverId=driver-20261121093000-0007")
    log = page.locator("#log")
    expect(log).to_have_text("first")
    page.get_by_label("Follow").check()

    def grow() -> None:
        face.log += b"<b>second</b>\n"

    loop.do(grow)
    expect(log).to_contain_text("<b>second</b>")


def test_times_go_on(page: Page, loop: Loop) -> None:
    world = World(time.time_ns() // 1_000_000 - 100_000)
    worker_id = world.worker("spark84")
    world.wall_ms += 100_000
    world.handle(events.WorkerHeartbeat(worker_id))
    page.goto(loop.serve(FakeMaster(world, since=world.wall_ms)).url)
    since = page.locator(".headline time")
    assert (since.get_attribute("title") or "").endswith(" UTC")
    expect(since).to_have_text("3 s ago")


@pytest.mark.usefixtures("zookeeper_jars")
def test_a_real_cluster_through_a_failover(page: Page, tmp_path: Path) -> None:
    with LocalCluster(tmp_path / "up", Shape(masters=2, workers=2, zookeeper=1)) as cluster:
        old = cluster.leader()
        masters = {master.name: f"http://127.0.0.1:{master.web}" for master in cluster.ports.masters}
        page.goto(masters[old])
        expect(page.locator(".headline .state")).to_have_text("ALIVE")
        expect(page.get_by_text("No driver yet.")).to_be_visible()
        driver_id = cluster.submit("sh", "-c", "echo hello from the driver; sleep 600")
        expect(page.locator("tr[data-key]", has_text=driver_id)).to_contain_text("RUNNING")
        cluster.kill(old)
        link = page.locator("#notice").get_by_role("link")
        expect(link).to_be_visible()
        link.click()
        new = next(name for name in masters if name != old)
        page.wait_for_url(masters[new] + "/")
        expect(page.locator(".headline .state")).to_have_text("ALIVE")
        row = page.locator("tr[data-key]", has_text=driver_id)
        expect(row).to_contain_text("RUNNING")
        expect(page.locator(".masters")).to_contain_text("standby")  # the old one is back
        row.get_by_role("link", name="stdout").click()
        expect(page.locator("#log")).to_contain_text("hello from the driver")
        page.go_back()
        row.get_by_role("button", name="Kill").click()
        page.get_by_role("dialog").get_by_role("button", name="Kill").click()
        expect(page.locator("h1")).to_have_text(driver_id)
        expect(page.locator(".headline .state")).to_have_text("KILLED")
