# ruff: noqa: INP001 - mkdocs loads it by its path
"""What the site needs beyond docs/: the page in deploy/, the list of decisions, and links that lead into the tree.

In the documents, links lead to files. In the site, those to pages lead there, and the others show the path.
"""

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
INCLUDED = {"howto/deploy.md": "deploy/README.md"}
"""Pages of the site that stand elsewhere in the tree."""
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_config(config: Any) -> Any:  # noqa: ANN401 - mkdocs has no types
    """List the decisions in the navigation."""
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    for entries in (entry[name] for entry in config.nav for name in entry if isinstance(entry[name], list)):
        for entry in entries:
            if isinstance(entry, dict) and "Decisions" in entry:
                entry["Decisions"] = [f"decisions/{file.name}" for file in decisions]
    return config


def on_files(files: Any, config: Any) -> Any:  # noqa: ANN401 - mkdocs has no types
    """Add the pages from elsewhere."""
    for page, source in INCLUDED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401 - mkdocs has no types
    """Turn links to files into links to pages."""
    name = page.file.src_uri
    source = ROOT / INCLUDED.get(name, f"docs/{name}")

    def turned(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in path:
            return match.group(0)
        wanted = os.path.relpath((source.parent / path).resolve(), ROOT)
        pages = {file: here for here, file in INCLUDED.items()}
        inside = pages.get(wanted, wanted.removeprefix("docs/") if wanted.startswith("docs/") else None)
        if inside is None or (ROOT / wanted).is_dir():
            return label if "`" in label else f"{label} (`{wanted}`)" if label != wanted else f"`{wanted}`"
        return f"{image}[{label}]({os.path.relpath(inside, Path(name).parent)}{hash_}{anchor})"

    return _LINK.sub(turned, markdown)
