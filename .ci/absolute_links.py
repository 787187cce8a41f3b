"""Make the relative links of a README absolute, because PyPI shows it without the repository.

    python .ci/absolute_links.py README.md OWNER/REPOSITORY TAG

In the repository, links stay relative, so they work on GitHub, on the Hub, in forks, and in an offline clone.
"""

import re
import sys
from pathlib import Path

PICTURES = (".gif", ".png", ".svg")


def absolute(text: str, repository: str, tag: str) -> str:
    """Return the Markdown with relative links replaced by links to the files of a tag."""

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if target.endswith(PICTURES):
            return f"](https://raw.githubusercontent.com/{repository}/{tag}/{target})"
        return f"](https://github.com/{repository}/blob/{tag}/{target})"

    return re.sub(r"\]\((?!https?:|#)(?P<target>[^)]+)\)", link, text)


if __name__ == "__main__":
    path, repository, tag = Path(sys.argv[1]), *sys.argv[2:]
    path.write_text(absolute(path.read_text(encoding="utf-8"), repository, tag), encoding="utf-8")
