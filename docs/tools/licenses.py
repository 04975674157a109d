"""List the licenses of the packages that stopcli asks for: ``python docs/tools/licenses.py``.

Writes docs/deploy/licenses.md from what is installed, as those packages say of themselves.
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "deploy" / "licenses.md"
HEAD = """# Licenses of the packages that stopcli uses

stopcli itself is Apache-2.0. This table, made by `python docs/tools/licenses.py`, is what the packages say of themselves:
those that every installation has, then those of the extras. What they ask for in turn is not listed; PyTorch's CUDA build
brings NVIDIA's libraries, which are proprietary.

| package | version | license | for |
|---|---|---|---|
"""


def license_of(name: str) -> tuple[str, str]:
    """Return the version and the license that a package names."""
    found = metadata.metadata(name)
    classes = [c.rpartition(" :: ")[2] for c in found.get_all("Classifier", []) if c.startswith("License ::")]
    text = found.get("License-Expression") or ", ".join(classes) or (found.get("License") or "").split("\n")[0]
    return found["Version"], text[:60] or "not said"


def main() -> None:
    """Write the page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"all": project["dependencies"], **project["optional-dependencies"]}
    rows: dict[str, list[str]] = {}
    for extra, needs in groups.items():
        for need in needs:
            rows.setdefault(re.split(r"[\[<>=;~ ]", need)[0], []).append("" if extra == "all" else f"`[{extra}]`")
    lines = []
    for name, uses in rows.items():
        try:
            version, text = license_of(name)
        except metadata.PackageNotFoundError:
            version, text = "not installed here", "see its page"
        lines.append(f"| {name} | {version} | {text} | {', '.join(filter(None, uses)) or 'all'} |")
    PAGE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
