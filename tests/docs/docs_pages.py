"""The pages, and what stands in code on them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Page:
    """A Markdown page."""

    path: Path

    @property
    def name(self):
        return str(self.path.relative_to(ROOT))

    @property
    def text(self):
        return self.path.read_text(encoding="utf-8")

    def blocks(self, language):
        return [match["code"] for match in FENCE.finditer(self.text) if match["language"] == language]

    @property
    def shell_lines(self):
        """Lines of shell blocks, without comments."""
        lines = "\n".join(self.blocks("")).splitlines()
        return [line.split(" #")[0].strip() for line in lines if not line.startswith("#")]

    @property
    def inline(self):
        """Pieces of code within the text."""
        return INLINE.findall(FENCE.sub("", self.text))


PAGES = {
    page.name: page
    for page in map(
        Page,
        sorted({*ROOT.glob("*.md"), *(p for d in ("docs", "benchmarks", "docker") for p in (ROOT / d).glob("*.md"))}),
    )
}
