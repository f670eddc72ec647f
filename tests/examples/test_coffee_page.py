"""The page in a real browser, told by the test what the system does."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

from doorkeeper import STRICT

from .conftest import SHOP

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
MENU = {
    "drinks": [{"name": "latte", "price": 3.6}, {"name": "mocha", "price": 3.9}],
    "sizes": [{"name": "small", "extra": 0}, {"name": "medium", "extra": 0.5}],
}


class FrontDoor:
    """Answers the page in place of the front door."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.status = status()
        self.deliveries = deliveries()
        self.answer: tuple[int, dict[str, Any]] = (202, {"order_id": "one"})
        self.received: list[tuple[str, Any]] = []

    def __call__(self, route: Route) -> None:
        path = route.request.url.removeprefix("http://127.0.0.1:8000/")
        if route.request.method != "GET":
            self.received.append((path, json.loads(route.request.post_data or "")))
            code, body = self.answer
            route.fulfill(status=code, json=body)
        elif path == "events":
            news = {"orders": self.orders, "status": self.status, "deliveries": self.deliveries}
            events = "".join(f"event: {name}\ndata: {json.dumps(view)}\n\n" for name, view in news.items())
            route.fulfill(content_type="text/event-stream", body=f"retry: 50\n\n{events}")
        elif path == "menu":
            route.fulfill(json=MENU)
        else:
            name = path or "index.html"
            headers = {**STRICT, "Content-Type": TYPES[name.rpartition(".")[2]]}
            route.fulfill(body=(SHOP / "static" / name).read_text(), headers=headers)


def status(
    *, state: str = "closed", mode: str | None = "none", canary: float | None = None, **queue: int
) -> dict[str, Any]:
    return {
        "queue": {"ready": 0, "in_flight": 0, "delayed": 0, "parked": 0, "dead": 0, **queue},
        "circuit": {"state": state, "next_canary_in": canary},
        "handler_runs": 12,
        "payments": {"reachable": mode is not None, "mode": mode, "calls": None if mode is None else 4},
    }


def delivery(state: str, *steps: str, **facts: Any) -> dict[str, Any]:
    names = ("charge", "reserve", "book", "confirm")
    stations = [{"name": name, "state": step, "attempts": 1} for name, step in zip(names, steps, strict=True)]
    order = {"order_id": "one", "customer": "Ada", "drink": "latte", "size": "small", "total": 3.6, "at_ms": 0}
    account = {"charged": 1, "refunded": 0}
    row = {**order, "state": state, "steps": stations, "account": account, "times_handed_over": 0}
    return {**row, "because": None, "parked_for": None, "rider": None, **facts}


def deliveries(*rows: dict[str, Any], stock: str | None = "none") -> dict[str, Any]:
    shelf = {"mode": stock, "done": 1, "undone": 0, "shelf": {"beans": 9, "oat milk": 8}}
    partners = {"payments": {"done": 2, "undone": 1}, "stock": shelf if stock else None, "courier": None}
    return {"deliveries": list(rows), "partners": partners}


@pytest.fixture
def door() -> FrontDoor:
    return FrontDoor()


@pytest.fixture
def page(door: FrontDoor) -> Iterator[Page]:
    """The page, which must log no error and break no rule of its policy."""
    if CHROMIUM is None:
        missing = "no Chromium here; Debian's package `chromium` has one"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 360, "height": 780})
        opened.set_default_timeout(10_000)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
        opened.route("**/*", door)
        yield opened
        browser.close()
    assert complaints == []


def visit(page: Page) -> None:
    page.goto("http://127.0.0.1:8000/")
    page.wait_for_selector(".choice")


def read(page: Page, selector: str) -> str:
    return page.inner_text(selector).strip()


@pytest.mark.parametrize(
    ("now", "words", "tone"),
    [
        (status(), "All is well. Coffee is served and paid for at once.", "good"),
        (status(in_flight=2), "All is well: 2 orders in the making.", "good"),
        (status(dead=1), "All is well, but 1 order can only be helped by a person.", "wait"),
        (status(mode="hang"), "Payments do not answer. The next orders will notice.", "wait"),
        (status(mode="hang", delayed=1), "Payments do not answer. 1 payment waits; the coffee is served.", "wait"),
        (status(state="open", mode="hang", parked=7), "Payments are down. Coffee is served, 7 payments wait.", "bad"),
        (
            status(state="open", parked=1),
            "Payments are mended, and the next check will notice. Coffee is served, 1 payment waits.",
            "bad",
        ),
        (
            status(state="open", mode=None, parked=2),
            "The payment system is not running. Coffee is served, 2 payments wait.",
            "bad",
        ),
        (
            status(state="half-open", parked=6),
            "Payments answer again. Trying carefully; 6 payments wait.",
            "wait",
        ),
        (status(parked=3), "Payments work again. Catching up: 3 payments to go.", "wait"),
        (
            status(mode="refuse"),
            "Every card is refused. That is an answer and no outage: nothing is tried again.",
            "wait",
        ),
        (
            status(mode=None),
            "The payment system is not running. Coffee will be served, and paid for later.",
            "bad",
        ),
        ({**status(), "queue": None, "circuit": None}, "The queue does not answer, so no order can be taken.", "bad"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_one_sentence_says_what_happens(
    page: Page, door: FrontDoor, now: dict[str, Any], words: str, tone: str
) -> None:
    """Whatever the system does, a person can read it."""
    door.status = now
    visit(page)
    expect(page.locator("#sentence")).to_have_text(words)
    expect(page.locator("body")).to_have_attribute("data-tone", tone)


def test_the_strip_shows_every_number(page: Page, door: FrontDoor) -> None:
    """Queue, circuit, handler runs, calls and the time until the next canary are all there."""
    door.status = status(state="open", mode="hang", canary=100.0, ready=1, in_flight=2, delayed=3, parked=4, dead=5)
    visit(page)
    expect(page.locator("#parked")).to_have_text("4")
    shown = {name: read(page, f"#{name}") for name in ("ready", "in_flight", "delayed", "parked", "dead")}
    assert shown == {"ready": "1", "in_flight": "2", "delayed": "3", "parked": "4", "dead": "5"}
    assert (read(page, "#state"), read(page, "#handler_runs"), read(page, "#calls")) == ("open", "12", "4")
    assert 90 < float(read(page, "#next_canary").removesuffix(" s")) <= 100


def test_what_people_type_is_text(page: Page, door: FrontDoor) -> None:
    """A name that looks like HTML stays a name, and a long one does not widen the page."""
    name = "<img src=x onerror=alert(1)>" + "W" * 32
    facts = {"drink": "mocha", "size": "small", "total": 3.9, "status": "served", "at_ms": 0}
    door.orders = [
        {**facts, "order_id": f"{payment}", "customer": name, "payment": payment}
        for payment in ("pending", "paid", "refused")
    ]
    visit(page)
    page.wait_for_selector(".ticket")
    assert page.locator(".ticket h3").first.text_content() == name
    assert page.locator(".ticket img").count() == 0
    stamps = page.locator(".chip.payment").all_text_contents()
    assert stamps == ["payment pending", "paid", "card refused"]
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_an_order_is_sent_by_keyboard(page: Page, door: FrontDoor) -> None:
    """A person without a mouse can choose and order; the answer is spoken."""
    visit(page)
    page.focus("#customer")
    page.keyboard.type("Ada")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text("Thank you, Ada. Your mocha is on its way.")
    assert door.received == [("orders", {"customer": "Ada", "drink": "mocha", "size": "medium"})]


def test_a_problem_is_shown_where_it_is(page: Page, door: FrontDoor) -> None:
    """A field that was refused says so itself and has the focus; other problems are said below."""
    door.answer = (422, {"error": "customer: string should have at least 1 character", "field": "customer"})
    visit(page)
    page.click("#send")
    page.wait_for_selector("#customer[aria-invalid=true]:focus")
    assert read(page, "#customer-problem") == "Whose name may we write on the cup?"
    door.answer = (503, {"error": "the queue does not answer"})
    page.click("#send")
    expect(page.locator("#answer")).to_have_text("the queue does not answer")
    expect(page.locator("#customer-problem")).to_be_empty()


def test_the_button_breaks_and_mends(page: Page, door: FrontDoor) -> None:
    """It breaks payments in the way that was chosen, and mends them when they are broken."""
    door.answer = (200, {})
    visit(page)
    page.wait_for_selector("#break.break:enabled")
    assert (read(page, "#break"), page.input_value("#mode")) == ("Break payments", "hang")
    page.select_option("#mode", "flaky")
    page.click("#break")
    door.status = status(mode="flaky")
    page.wait_for_selector("#break.mend")
    assert read(page, "#break") == "Fix payments"
    page.click("#break")
    door.status = status()
    page.wait_for_selector("#break.break")
    assert door.received == [("faults", {"mode": "flaky"}), ("faults", {"mode": "none"})]


@pytest.mark.parametrize(
    ("now", "words", "signs"),
    [
        (delivery("queued", *["next"] * 4), "in the queue", ["", "", "", ""]),
        (delivery("running", "done", "done", "started", "next"), "in the making", ["✓", "✓", "…", ""]),
        (delivery("running", "again", "next", "next", "next"), "in the making", ["↻", "", "", ""]),
        (
            delivery("running", "done", "done", "parked", "next", parked_for="courier"),
            "waits for the courier",
            ["✓", "✓", "‖", ""],
        ),
        (delivery("completed", *["done"] * 4, rider="Rosa"), "on its way", ["✓"] * 4),
        (
            delivery("undoing", "undoing", "rejected", "undone", "next", because="out of oat milk"),
            "being undone",
            ["↩", "✕", "↩", ""],
        ),
        (
            delivery("undone", "undone", "rejected", "undone", "next", because="out of oat milk"),
            "refunded",
            ["↩", "✕", "↩", ""],
        ),
        (
            delivery("undone", "rejected", "next", "next", "next", account={"charged": 0, "refunded": 0}),
            "not charged",
            ["✕", "", "", ""],
        ),
        (delivery("stuck", "stuck", "rejected", "undone", "next"), "a person has to look", ["!", "✕", "↩", ""]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_delivery_says_what_became_of_it(
    page: Page, door: FrontDoor, now: dict[str, Any], words: str, signs: list[str]
) -> None:
    """Whatever its saga does, the customer can read it, and see at which station."""
    door.deliveries = deliveries(now)
    visit(page)
    expect(page.locator(".fate b")).to_have_text(words)
    expect(page.locator(".station .sign")).to_have_text(signs)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_partners_are_broken_and_mended_and_the_worker_is_killed(page: Page, door: FrontDoor) -> None:
    """Each button does what it says; a partner that is not running cannot be broken."""
    door.answer = (200, {"killed": 4711})
    door.deliveries = deliveries()
    visit(page)
    expect(page.locator("#courier button")).to_be_disabled()
    expect(page.locator("#stock .books")).to_have_text("held 1 · released 0 · oat milk 8")
    page.click("#stock button")
    door.deliveries = deliveries(stock="refuse")
    expect(page.locator("#stock button")).to_have_text("Refill")
    page.click("#stock button")
    page.click("#kill")
    expect(page.locator("#killed")).to_contain_text("kill -9 4711")
    assert door.received == [("faults/stock", {"mode": "refuse"}), ("faults/stock", {"mode": "none"}), ("kill", {})]


def test_a_delivery_is_ordered_like_any_coffee(page: Page, door: FrontDoor) -> None:
    """With the name, drink and size of the form."""
    visit(page)
    page.fill("#customer", "Ada")
    page.click("#deliver")
    expect(page.locator("#answer")).to_have_text("Thank you, Ada. Watch your latte under Deliveries.")
    assert door.received == [("deliveries", {"customer": "Ada", "drink": "latte", "size": "medium"})]
