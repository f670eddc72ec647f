"""The story, clicked through by a person: a real browser, the real shop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

from tests.e2e.conftest import CoffeeShop

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(120)]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(params=[(1280, "light"), (360, "dark")], ids=["desktop-light", "phone-dark"])
def page(request: pytest.FixtureRequest, coffee_shop: CoffeeShop) -> Iterator[Page]:
    """The shop's page, which must log no error."""
    if CHROMIUM is None:
        missing = "no Chromium here; Debian's package `chromium` has one"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    width, scheme = request.param
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.goto(coffee_shop.shop)
        yield opened
        browser.close()
    assert complaints == []


def test_a_name_typed_before_the_menu_came_is_kept(page: Page) -> None:
    """Whoever types faster than the menu loads orders under that name."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/menu", hold)
    page.reload(wait_until="commit")
    page.fill("#customer", "Ada")
    page.wait_for_load_state("load")
    assert held, "the page did not ask for its menu"
    held[0].continue_()
    page.check('input[value="mocha"]')
    expect(page.locator("#customer")).to_have_value("Ada")
    page.click("#send")
    expect(page.locator("#tickets > li")).to_have_count(1, timeout=5_000)


def test_a_person_breaks_payments_orders_on_and_watches_it_heal(page: Page, coffee_shop: CoffeeShop) -> None:
    """One coffee is paid; with payments broken ten more are served and wait; mended, all are paid by themselves."""
    tickets = page.locator("#tickets > li")
    page.fill("#customer", "Ada")
    page.check('input[value="mocha"]')
    page.click("#send")
    expect(tickets).to_have_count(1, timeout=5_000)
    expect(tickets.first).to_contain_text("paid", timeout=5_000, ignore_case=True)

    page.select_option("#mode", "hang")
    page.click("#break")
    expect(page.locator("#break")).to_have_text("Fix payments", timeout=5_000)
    page.click("#rush")
    expect(page.locator("#parked")).to_have_text("10", timeout=20_000)
    expect(page.locator("#state")).to_have_text("open")
    expect(page.locator("#sentence")).to_contain_text("10 payments wait")
    expect(tickets.filter(has_text="pending")).to_have_count(10)
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "the page is wider than the screen"

    page.click("#break")
    expect(page.locator("#parked")).to_have_text("0", timeout=12_000)
    expect(tickets.filter(has_text="pending")).to_have_count(0, timeout=12_000)
    expect(page.locator("#state")).to_have_text("closed")
    expect(tickets).to_have_count(11)
    assert coffee_shop.stop() < 3.0, "an open page holds the shop up"


def test_a_person_has_coffee_delivered_and_is_refunded_when_the_oat_milk_is_out(
    page: Page, coffee_shop: CoffeeShop
) -> None:
    """One delivery is on its way; without oat milk the next is refunded, once; without a courier the third waits."""
    newest = page.locator("#journeys > li").first
    page.fill("#customer", "Ada")
    page.click("#deliver")
    expect(newest).to_contain_text("on its way", timeout=5_000)
    expect(newest).to_contain_text("charged 1, refunded 0")

    page.click("#stock button")
    expect(page.locator("#stock button")).to_have_text("Refill", timeout=5_000)
    page.fill("#customer", "Grace")
    page.click("#deliver")
    expect(newest).to_contain_text("Grace", timeout=5_000)
    expect(newest).to_contain_text("out of oat milk", timeout=5_000)
    expect(newest).to_contain_text("charged 1, refunded 1")
    stations = newest.locator(".station .word")
    expect(stations).to_have_text(["refunded", "reserve", "cancelled", "confirm"])

    page.click("#stock button")
    page.click("#courier button")
    expect(page.locator("#courier button")).to_have_text("Fix", timeout=5_000)
    page.fill("#customer", "Barbara")
    page.click("#deliver")
    expect(newest).to_contain_text("waits for the courier", timeout=10_000)
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0, "the page is wider than the screen"
    page.click("#courier button")
    expect(newest).to_contain_text("on its way", timeout=15_000)
    assert coffee_shop.stop() < 3.0, "an open page holds the shop up"
