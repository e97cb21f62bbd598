"""How a picture gets into the page: pasted, dropped, chosen early; and what is none is told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import WORKSHEET
from tests.web.conftest import on_a_phone

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

    from tests.end_to_end.conftest import Service


def test_picture_can_be_pasted_and_dropped_and_a_file_that_is_none_is_told_of(page: Page, service: Service) -> None:
    del service
    transfer = """(type) => {
        const transfer = new DataTransfer();
        const canvas = document.createElement("canvas");
        return new Promise((done) => canvas.toBlob((blob) => {
            transfer.items.add(new File([blob], type + ".png", {type: "image/png"}));
            const event = type === "paste" ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
                                           : new DragEvent("drop", {dataTransfer: transfer, bubbles: true});
            document.body.dispatchEvent(event);
            done();
        }));
    }"""
    for way in ("paste", "drop"):
        page.evaluate(transfer, way)
        expect(page.locator("#picture-name")).to_have_text(f"{way}.png")
    page.get_by_role("button", name="Remove the picture").click()
    broken: Any = {"name": "broken.png", "mimeType": "image/png", "buffer": b"none"}
    page.get_by_label("Take or choose a picture").set_input_files([broken])
    expect(page.get_by_role("alert")).to_contain_text("I cannot open this file as a picture")


@pytest.mark.parametrize("kind", ["application/pdf", ""])  # the latter is what a system says that knows no HEIC
def test_file_of_another_kind_that_is_dropped_is_told_of(page: Page, service: Service, kind: str) -> None:
    del service
    page.evaluate(
        """(type) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File(["x"], "page", {type}));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
    }""",
        kind,
    )
    expect(page.get_by_role("alert")).to_contain_text("I cannot open this file as a picture")


@on_a_phone
def test_of_several_pictures_that_are_dropped_the_first_is_taken_and_this_is_told(page: Page) -> None:
    page.evaluate("""async () => {
        const transfer = new DataTransfer();
        const canvas = document.createElement("canvas");
        const blob = await new Promise((done) => canvas.toBlob(done));
        for (const name of ["a.png", "b.png"]) transfer.items.add(new File([blob], name, {type: "image/png"}));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
    }""")
    expect(page.locator("#picture-name")).to_have_text("a.png")
    expect(page.get_by_role("alert")).to_have_text("I can look at one picture at a time. This is the first.")


@on_a_phone
def test_question_and_picture_of_before_the_scripts_have_come_are_kept(page: Page, service: Service) -> None:
    held: list[Route] = []
    page.route("**/js/main.js", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    with page.expect_request("**/js/main.js"):
        page.goto(f"{service.url}/?slowly", wait_until="commit")
    page.get_by_role("textbox", name="Your question").fill("What is x?")
    page.get_by_label("Take or choose a picture").set_input_files(WORKSHEET)
    held[0].continue_()
    expect(page.get_by_alt_text("Your picture")).to_be_visible()
    expect(page.get_by_role("textbox", name="Your question")).to_have_value("What is x?")


DRAG = """(type) => {
    const transfer = new DataTransfer();
    transfer.setData("text/plain", "x");
    const event = new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true});
    return document.querySelector("#prompt").dispatchEvent(event);
}"""


@on_a_phone
def test_text_that_is_dragged_is_left_to_the_browser(page: Page) -> None:
    assert page.evaluate(DRAG, "dragover")
    expect(page.get_by_text("Drop the picture here")).to_be_hidden()
    assert page.evaluate(DRAG, "drop")
    expect(page.get_by_role("alert")).to_have_text("")
