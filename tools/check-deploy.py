#!/usr/bin/env python3
"""Checks deploy/ as far as that goes without a container engine, a cluster, or systemd as the first process.

    tools/.venv/bin/python tools/check-deploy.py [CHECK ...]

Each check is then shown to fail: the same files with one thing broken (deploy_checks/breakages.py) must be refused, in
the words that the breakage names.
"""
import shutil
import sys
import tempfile
from pathlib import Path

from deploy_checks.breakages import BREAKAGES
from deploy_checks.common import TOP, WINDLASS
from deploy_checks.compose import compose
from deploy_checks.dockerfile import dockerfile
from deploy_checks.documents import documents
from deploy_checks.kubernetes import kubernetes
from deploy_checks.runs import runs
from deploy_checks.unit import unit

CHECKS = {"dockerfile": dockerfile, "compose": compose, "unit": unit, "kubernetes": kubernetes,
          "documents": documents, "runs": runs}
# What the checks read.
READ = ("deploy", "grafana", ".dockerignore", "Cargo.toml", "Cargo.lock", "Makefile", "deny.toml", "crates",
        "contracts", "tests", "docs", "tools", ".ci", "README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
NOT_READ = shutil.ignore_patterns("node_modules", ".venv", "target", "__pycache__", "out", "cache")


def broken(asked):
    """Each breakage in a copy; those that were not found."""
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy.chmod(0o755)
        for name in READ:
            if (TOP / name).is_dir():
                shutil.copytree(TOP / name, copy / name, ignore=NOT_READ)
            else:
                shutil.copyfile(TOP / name, copy / name)
        for check, name, old, new, words in BREAKAGES:
            if check not in asked:
                continue
            path = copy / name
            before = path.read_text()
            path.write_text(before.replace(old, new))
            problems = CHECKS[check](copy) if old in before else []
            path.write_text(before)
            if not any(words in problem for problem in problems):
                answer = problems or "nothing was said"
                missed.append(f"{check}: {name} with {new.strip()!r} for {old.strip()!r}: {answer}")
    return missed


def main():
    asked = sys.argv[1:] or list(CHECKS)
    if unknown := set(asked) - set(CHECKS):
        sys.exit(f"no such check: {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    if "runs" in asked and not WINDLASS.exists():
        sys.exit(f"{WINDLASS} is not there: cargo build --locked -p windlass")
    failed = 0
    for name in asked:
        print(f"{name}: {' '.join(CHECKS[name].__doc__.split())}", flush=True)
        problems = CHECKS[name](TOP)
        failed += len(problems)
        print("\n".join(f"        FAILED {p}" for p in problems) if problems else "        ok", flush=True)
    missed = broken(asked)
    count = sum(b[0] in asked for b in BREAKAGES)
    print(f"{count - len(missed)} of {count} broken files were refused for what was wrong with them")
    for words in missed:
        print(f"        NOT FOUND {words}")
    sys.exit(1 if failed or missed else 0)


if __name__ == "__main__":
    main()
