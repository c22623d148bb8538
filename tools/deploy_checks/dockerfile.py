"""deploy/Dockerfile and .dockerignore."""
import os
import re
import shutil
import tempfile
from pathlib import Path

from .common import BIN, said


def stages(root):
    """The Dockerfile's stages: name (or None for the last) to its instructions."""
    text = (root / "deploy/Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest.strip()))
    return found


def one(stage, word):
    """The last such instruction of a stage."""
    return next((rest for found, rest in reversed(stage) if found == word), None)


def ignored(root):
    """Whether a path of the context is left out by .dockerignore."""
    patterns = []
    for line in (root / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = re.escape(line.rstrip("/")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        patterns.append(re.compile(pattern + "(?:/.*)?$"))
    return lambda path: any(pattern.match(path) for pattern in patterns)


def context(root, stage, into):
    """Copies what a stage copies out of the build context."""
    problems, out = [], ignored(root)
    for word, rest in stage:
        if word != "COPY" or "--from=" in rest:
            continue
        *sources, target = [w for w in rest.split() if not w.startswith("--")]
        for source in sources:
            if out(source) or not (root / source).exists():
                problems.append(f"COPY {source}: not in the build context")
                continue
            to = into / target / Path(source).name if target.endswith("/") else into / target
            if (root / source).is_dir():
                for folder, names, files in os.walk(root / source):
                    base = Path(folder).relative_to(root)
                    names[:] = [n for n in names if not out(str(base / n))]
                    for name in files:
                        if not out(str(base / name)):
                            place = to / (base / name).relative_to(source)
                            place.parent.mkdir(parents=True, exist_ok=True)
                            shutil.copyfile(root / base / name, place)
            elif to != into:
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / source, to)
    return problems


def build_context(root, stage):
    """Cargo finds each manifest and target in the context, and each file that the sources include is there."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        problems = context(root, stage, there)
        if problems:
            return problems
        problems += said("cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1",
                         cwd=there)
        for source in there.glob("crates/*/src/**/*.rs"):
            # Up to the tests, which are at the end of a file or in files of their own.
            if source.name == "tests.rs" or "tests" in source.parts[:-1]:
                continue
            text = source.read_text().split("#[cfg(test)]")[0]
            crate = there / Path(*source.relative_to(there).parts[:2])
            for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', text):
                if not (source.parent / name).exists():
                    problems.append(f"{source.relative_to(there)} includes {name}: not in the build context")
            for name in re.findall(r'^\s*"(\.\./[^"]+\.json)"', text, re.M):
                if not (crate / name).exists():
                    problems.append(f"{source.relative_to(there)} reads {name}: not in the build context")
        return problems


def dockerfile(root):
    """hadolint, and what the images promise: numbers for users, health, --locked, no secret in the context."""
    problems = said(BIN / "hadolint", "--no-color", "--failure-threshold", "style", root / "deploy/Dockerfile")
    found = stages(root)
    if not any("--locked" in rest for word, rest in found[0] if word == "RUN"):
        problems.append("the build stage does not say --locked")
    for stage in found:
        base = one(stage, "FROM").split()[0]
        if not re.search(r":.*\d|:[a-z]+-slim$", base):
            problems.append(f"FROM {base}: without a version")
    for stage in (s for s in found if one(s, "ENTRYPOINT")):
        name = one(stage, "FROM")
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", one(stage, "USER") or ""):
            problems.append(f"FROM {name}: USER is not a number above 0")
        for word in ("HEALTHCHECK", "VOLUME", "STOPSIGNAL", "LABEL"):
            if not one(stage, word):
                problems.append(f"FROM {name}: no {word}")
    out = ignored(root)
    for path in ("submitter.key", "a/server.pem", "devices.mnemonic", "data/journal.sqlite", "data/journal.sqlite-wal",
                 ".env", ".git/config", "target/debug/windlass", "contracts/node_modules/ethers/package.json"):
        if not out(path):
            problems.append(f".dockerignore lets {path} into the build context")
    return problems + build_context(root, found[0])
