"""The documents about deployment and security: their links, and the tests that they name."""
import re

# A test's name says what it shows: at least four words, in Rust's or Solidity's spelling.
NAME = re.compile(r"`((?:[A-Za-z0-9]+_){3,}[A-Za-z0-9]+|test_\w+)`")


def names(root):
    """All that is called a function in Rust or Solidity."""
    found = set()
    for folder, pattern in (("crates", "*.rs"), ("tests", "*.rs"), ("contracts/test", "*.sol")):
        for file in (root / folder).rglob(pattern):
            if not {"node_modules", "target"} & set(file.parts):
                found.update(re.findall(r"\b(?:fn|function) (\w+)", file.read_text()))
    return found


def heading(text):
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(file):
    return {heading(line.lstrip("#")) for line in file.read_text().splitlines() if line.startswith("#")}


def documents(root):
    """Each test that security.md names is there; each link of the documents leads to a file and a heading."""
    problems, tests = [], names(root)
    named = NAME.findall((root / "docs/security.md").read_text())
    problems += [f"security.md: no test is called {name}" for name in named if name not in tests]
    if len(named) < 40:
        problems.append(f"security.md names {len(named)} tests only")
    for page in [*root.glob("*.md"), *root.glob("docs/*.md")]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.exists():
                problems.append(f"{page.name}: {link} leads nowhere")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                problems.append(f"{page.name}: {link}: no such heading")
    return problems
