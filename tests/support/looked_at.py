"""A page as a person sees it: in a browser of some width, with what touches, is cut or complains."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

OVERLAPPING = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const labels = [...svg.querySelectorAll('text')].filter(label => label.textContent.trim())
    .map(label => [label.textContent, label.getBoundingClientRect()])
  return labels.flatMap(([text, box], index) => labels.slice(index + 1)
    .filter(([_, other]) => box.left < other.right - 1 && other.left < box.right - 1
      && box.top < other.bottom - 2 && other.top < box.bottom - 2)
    .map(([other]) => `${text} | ${other}`))
})"""
OUTSIDE = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect()
  return [...svg.querySelectorAll('text')].filter(label => {
    const box = label.getBoundingClientRect()
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
      || box.bottom > frame.bottom + 1
  }).map(label => label.textContent)
})"""
CUT = """() => [...document.querySelectorAll('.scroll, pre')].filter(one => one.scrollWidth > one.clientWidth)
  .map(one => one.getAttribute('aria-label'))"""


@contextlib.contextmanager
def looked_at(browser, tmp_path: Path, html: str, width_px: int, color_scheme: str = "light") -> Iterator:
    """Gives the page with its details opened; on leaving it nothing may have complained."""
    file = tmp_path / f"page-{width_px}.html"
    file.write_text(html, encoding="utf-8")
    context = browser.new_context(viewport={"width": width_px, "height": 844}, color_scheme=color_scheme)
    page, troubles = context.new_page(), []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    yield page
    context.close()
    assert troubles == []


def ugliness(page) -> dict[str, list[str]]:
    """Returns labels of plots that touch each other or leave their plot, and tables and commands that are cut."""
    sideways = page.evaluate("document.scrollingElement.scrollWidth > innerWidth")
    found = {"overlapping": page.evaluate(OVERLAPPING), "outside": page.evaluate(OUTSIDE), "cut": page.evaluate(CUT)}
    return {name: labels for name, labels in found.items() if labels} | ({"sideways": ["page"]} if sideways else {})
