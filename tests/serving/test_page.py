"""The page in a real browser: the keyboard alone, the phone, what is too large, and what goes wrong."""

import io
import re

import numpy
import pytest
from PIL import Image
from served import by_hand, gray_image

pytestmark = pytest.mark.integration  # a whole server and a browser

sync_api = pytest.importorskip("playwright.sync_api")
TIMEOUT_MS = 120_000  # the machine may be busy
sync_api.expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture
def page(browser, server, request):
    """The page, watched: nothing but this server is asked, and nothing goes wrong unsaid."""
    context = browser.new_context(**getattr(request, "param", {}))
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.troubles, page.asked = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("filechooser", lambda chooser: None)  # from here on they are caught, however busy the machine
    page.goto(server.url)
    yield page
    assert all(url.startswith((server.url, f"blob:{server.url}")) for url in page.asked)
    context.close()


def file(content: bytes, name: str = "bin.png", kind: str = "image/png") -> dict:
    return {"name": name, "mimeType": kind, "buffer": content}


def wait_for_prediction(page):
    page.wait_for_selector("#prediction:not([hidden])")
    page.wait_for_selector("#result:not([aria-busy])")


def shows(page, selector: str, text: str):
    sync_api.expect(page.locator(selector)).to_contain_text(text)


def test_with_the_keyboard_alone(page, tmp_path):
    (tmp_path / "bin.png").write_bytes(gray_image(55))
    shares = by_hand(55)
    focused = "document.activeElement.id"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "file"
    assert page.evaluate("getComputedStyle(document.activeElement.parentElement).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(tmp_path / "bin.png")
    wait_for_prediction(page)
    while page.evaluate(focused) != "record":
        page.keyboard.press("Tab")
    page.keyboard.type("4")
    page.keyboard.press("Enter")
    page.wait_for_selector("#against:not([hidden])")
    wait_for_prediction(page)
    text = page.locator("[aria-live=polite]").inner_text()
    assert re.match(r"2\s+items\s+Record says 4\s+recount\s+The record of 4 is unlikely", text)
    assert "recount: most likely 2 items" in text
    bars = page.locator("#bars li")
    assert bars.count() == 5
    assert bars.nth(1).inner_text().split() == ["2", f"{100 * shares[1]:.0f}", "%"]
    track = bars.nth(1).locator(".track")
    width = track.evaluate("element => parseFloat(getComputedStyle(element, '::before').width) / element.clientWidth")
    assert width == pytest.approx(shares[1], abs=0.01)
    assert "record" in bars.nth(3).inner_text()
    assert page.locator("#set").inner_text().startswith("The photo leaves open 1 or 2. In 90 of 100 bins")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "record" and page.troubles == []


@pytest.mark.parametrize(
    "page",
    [
        {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True, "is_mobile": True},
        {"viewport": {"width": 1280, "height": 844}, "color_scheme": "light"},
    ],
    indirect=True,
)
def test_on_a_phone_and_on_a_desk(page):
    width = page.viewport_size["width"]
    page.fill("#record", "3")
    page.set_input_files("#file", file(gray_image(125), name="a-name-without-a-break" * 9))
    wait_for_prediction(page)
    assert page.locator("#ruling").inner_text() == "agrees"
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    shown = page.evaluate(
        "[...document.querySelectorAll('.button, button, #record')].map(x => x.getBoundingClientRect())"
        ".filter(box => box.width).map(box => Math.min(box.width, box.height))"
    )
    assert len(shown) == (4 if width == 390 else 3) and min(shown) >= 44
    red, green, blue = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert (red + green + blue > 600) == (width == 1280)
    sync_api.expect(page.locator("#number")).to_be_in_viewport()
    assert page.troubles == []


def test_what_is_too_large_or_of_another_kind_is_made_smaller_and_said(page):
    noise = numpy.random.default_rng(0).integers(115, 136, (1500, 2500, 3), dtype=numpy.uint8)
    large = io.BytesIO()
    Image.fromarray(noise).save(large, "PNG", compress_level=1)
    assert len(large.getvalue()) > 6 * 2**20
    page.set_input_files("#file", file(large.getvalue()))
    wait_for_prediction(page)
    assert page.locator("#number").inner_text() == "3"
    text = page.locator("#scaled").inner_text()
    assert text.startswith("Sent as a JPEG of 2048 × 1229 px instead of 2500 × 1500: it has ")
    bitmap = io.BytesIO()
    Image.new("RGB", (40, 30), (25, 25, 25)).save(bitmap, "BMP")
    page.set_input_files("#file", file(bitmap.getvalue(), "bin.bmp", "image/bmp"))
    shows(page, "#number", "1")
    assert "of 40 × 30 px instead of 40 × 30: only JPEG, PNG" in page.locator("#scaled").inner_text()
    page.set_input_files("#file", file(gray_image(125)))
    shows(page, "#number", "3")
    assert page.locator("#scaled").inner_text() == ""


def test_troubles_are_told_in_words(page, server):
    def trouble() -> str:
        page.wait_for_selector("#trouble:not([hidden])")
        page.wait_for_selector("#result:not([aria-busy])")
        return page.locator("#trouble").inner_text()

    page.click("#count")
    assert "There is no image yet" in trouble()
    page.set_input_files("#file", file(b"hello"))
    shows(page, "#error", "are no image")
    assert "Send a JPEG" in trouble()
    page.set_input_files("#file", file(gray_image(125)))
    wait_for_prediction(page)
    page.fill("#record", "9")
    page.click("#count")
    assert "Type a whole number from 1 to 5" in trouble()
    page.fill("#record", "")
    page.route("**/invocations", lambda route: route.abort())
    page.click("#count")
    shows(page, "#error", "did not answer")


def test_a_model_of_drawn_bins_says_so_of_a_photo(page):
    warning = {"warning": "This model has only ever seen drawn bins: its count of a photo means nothing."}

    def warned(route):
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | warning)

    page.set_input_files("#file", file(gray_image(125)))
    wait_for_prediction(page)
    assert not page.locator("#warning").is_visible() and page.locator("#set").is_visible()
    page.route("**/invocations", warned)
    page.click("#count")
    shows(page, "#warning", "only ever seen drawn bins")
    assert page.locator("#warning").is_visible() and not page.locator("#set").is_visible()


def test_after_a_file_that_is_no_image_nothing_of_the_one_before_stays(page):
    page.set_input_files("#file", file(gray_image(125), name="first.png"))
    wait_for_prediction(page)
    assert page.locator("#preview").is_visible() and page.locator("#invitation").inner_text() == "first.png"
    page.set_input_files("#file", file(b"a note", "note.txt", "text/plain"))
    shows(page, "#error", "no image that your browser can read")
    assert not page.locator("#preview").is_visible() and page.locator("#invitation").inner_text() == "note.txt"
    page.click("#count")
    shows(page, "#error", "There is no image yet")


def test_an_image_that_takes_long_to_draw_does_not_displace_the_one_chosen_after_it(page):
    page.evaluate("""() => {
      const draw = window.createImageBitmap;
      const released = new Promise((release) => { window.release = release; });
      window.createImageBitmap = async (file) => { await released; return draw(file); };
    }""")
    page.set_input_files("#file", file(gray_image(225, "BMP"), "slow.bmp", "image/bmp"))
    page.set_input_files("#file", file(gray_image(25), "fast.png"))
    shows(page, "#number", "1")
    page.evaluate("window.release()")
    page.wait_for_timeout(500)
    wait_for_prediction(page)
    assert page.locator("#invitation").inner_text() == "fast.png" and page.locator("#scaled").inner_text() == ""
    assert page.locator("#number").inner_text() == "1"


def test_a_dropped_and_a_pasted_image_are_counted_and_a_busy_server_is_asked_again(page):
    give = """([bytes, kind]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "bin.png", { type: "image/png" }));
      const names = { drop: "dataTransfer", paste: "clipboardData" };
      const Kind = { drop: DragEvent, paste: ClipboardEvent }[kind];
      document.body.dispatchEvent(new Kind(kind, { [names[kind]]: data, bubbles: true, cancelable: true }));
    }"""
    for kind, brightness, count in (("drop", 225, "5"), ("paste", 25, "1")):
        page.evaluate(give, [list(gray_image(brightness)), kind])
        shows(page, "#number", f"{count}")
    busy = {"status": 503, "headers": {"Retry-After": "0"}, "json": {"error": "Busy.", "hint": "Wait."}}
    page.route("**/invocations", lambda route: route.fulfill(**busy), times=2)
    page.evaluate(give, [list(gray_image(125)), "drop"])
    shows(page, "#number", "3")
    assert page.locator("#number").inner_text() == "3"


def test_nothing_from_elsewhere_could_run(server):
    response = server.client.get("/")
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" == policy["style-src"]
    assert not re.search(r"""(src|href)="(https?:)?//|<style|<script>|style=|\son\w+=""", response.text)
    for path in ("/theme.css", "/page.css", "/page.js", "/page.svg"):
        assert server.client.get(path).status_code == 200
