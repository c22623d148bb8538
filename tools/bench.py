#!/usr/bin/env python3
"""One table of all figures that the benches measured, and a check of them against committed ones.

    tools/bench.py collect     print the table; write docs/bench.json and the table in docs/performance.md
    tools/bench.py check       compare the ratios to the reference runs with tests/golden/bench.json; 1 on a regression
    tools/bench.py baseline    make what was measured the baseline

The benches leave their figures in target/bench/*.json (tests/src/figures.rs). Absolute figures depend on the machine;
the ratio to a reference that ran in the same session does so far less, so only ratios are checked.
"""
import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target") / "bench"
BASELINE = TOP / "tests/golden/bench.json"
JSON = TOP / "docs/bench.json"
DOCUMENT = TOP / "docs/performance.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"

AREAS = ("broker", "chain", "proof", "small")
HEADING = ("area", "figure", "Windlass", "reference", "ratio")
DURABILITY = ("Windlass: one fsync for each group of readings before any of them is acknowledged. mosquitto and rumqttd keep "
              "all in memory; the article's loop stores nothing of its own; the plain file has one fdatasync for each group.")
# What a ratio may become, as a factor of the baseline's: of a rate, of a cost.
HIGHER, LOWER = 0.7, 1.4
# Costs that vary more from run to run, by a part of their name.
VARIES = (("come back", 5.0), ("p99", 2.5), ("p50", 2.0), ("journal commit", 2.0))


def results(folder=None):
    """The figures of all areas that were measured, each with its area."""
    files = [json.loads(path.read_text()) for path in sorted((folder or RESULTS).glob("*.json"))]
    files.sort(key=lambda file: AREAS.index(file["area"]))
    return [{"area": file["area"], **figure} for file in files for figure in file["figures"]]


def key(figure):
    """What a figure is told apart by in the baseline."""
    reference = figure["reference"]
    return f"{figure['area']}: {figure['name']}" + (f" / {reference['name']}" if reference else "")


def number(value):
    """Three significant digits, or all of them before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 0
    while digits < 6 and abs(value) * 10**digits < 100:
        digits += 1
    return f"{value:.{digits}f}"


def row(figure):
    """A line of the table."""
    reference, ratio, unit = figure["reference"], figure["ratio"], figure["unit"]
    beside = f"{number(reference['value'])} {unit}, {reference['name']}" if reference else ""
    ours = f"{number(figure['value'])} {unit}"
    return [figure["area"], figure["name"], ours, beside, "" if ratio is None else number(ratio)]


def aligned(rows):
    """Rows as lines with columns of equal width."""
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in rows)


def date(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def dates(figures):
    """The day of the measurements, or the first and the last one."""
    days = sorted({date(figure["measured_at"]) for figure in figures})
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def machine():
    """What it ran on, without any name of it."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    uname = os.uname()
    return {"cores": os.cpu_count(), "memory_gib": round(int(memory.split()[1]) / 1024**2),
            "kernel": f"{uname.sysname} {'.'.join(uname.release.split('.')[:2])}", "architecture": uname.machine}


def markdown(figures, host):
    """The block of the document: where and when, the table, the conditions that its last column numbers."""
    conditions = list(dict.fromkeys(figure["conditions"] for figure in figures))
    lines = [f"Measured on {dates(figures)}: {host['cores']} cores, {host['memory_gib']} GiB, {host['kernel']}, "
             f"{host['architecture']}; brokers, node and load on the same machine.", "", DURABILITY, ""]
    for cells in [[*HEADING, "under"], ["---"] * (len(HEADING) + 1)]:
        lines.append(f"| {' | '.join(cells)} |")
    for figure in figures:
        lines.append(f"| {' | '.join([*row(figure), str(conditions.index(figure['conditions']) + 1)])} |")
    lines.append("")
    lines += [f"{place}. {text}" for place, text in enumerate(conditions, 1)]
    return "\n".join(lines)


def with_block(document, block):
    """The document with this between its markers."""
    if document.count(BEGIN) != 1 or document.count(END) != 1:
        raise SystemExit(f"docs/performance.md needs {BEGIN} and {END} once each")
    before, rest = document.split(BEGIN)
    return f"{before}{BEGIN}\n{block}\n{END}{rest.split(END)[1]}"


def collect(figures):
    host = machine()
    print(aligned([list(HEADING)] + [row(figure) for figure in figures]))
    whole = {"measured": dates(figures), "machine": host, "durability": DURABILITY, "figures": figures}
    JSON.write_text(json.dumps(whole, indent=2) + "\n")
    DOCUMENT.write_text(with_block(DOCUMENT.read_text(), markdown(figures, host)))
    return 0


def factor(figure):
    """How far its ratio may go from the baseline's."""
    if figure["better"] == "higher":
        return HIGHER
    return next((wide for part, wide in VARIES if part in figure["name"]), LOWER)


def judged(figure, known):
    """A verdict, and what it rests on."""
    ratio = figure["ratio"]
    if ratio is None:
        return "shown", " ".join(filter(None, row(figure)[2:4]))
    if known is None:
        return "new", f"{number(ratio)}, not in the baseline"
    limit = known["ratio"] * known["factor"]
    good = ratio >= limit if figure["better"] == "higher" else ratio <= limit
    word = "at least" if figure["better"] == "higher" else "at most"
    return "ok" if good else "REGRESSION", f"{number(ratio)}, was {number(known['ratio'])}, {word} {number(limit)}"


def comparisons(figures, baseline):
    """Each figure's verdict, its name and why; also for those that a measured area has no longer."""
    areas, measured = {figure["area"] for figure in figures}, {key(figure) for figure in figures}
    lines = []
    for figure in figures:
        verdict, why = judged(figure, baseline.get(key(figure)))
        lines.append([verdict, key(figure), why])
    for name, known in baseline.items():
        if name not in measured and name.split(":")[0] in areas:
            lines.append(["MISSING", name, f"was {number(known['ratio'])}"])
    return lines


def check(figures):
    if not BASELINE.exists():
        print("there is no tests/golden/bench.json to check against: make bench-baseline")
        return 1
    lines = comparisons(figures, json.loads(BASELINE.read_text())["figures"])
    print(aligned(lines))
    bad = sum(verdict.isupper() for verdict, _, _ in lines)
    print(f"{bad} of {len(lines)} are worse than the baseline allows" if bad else "no regression")
    return 1 if bad else 0


def renewed(figures, old):
    """The baseline of these figures. A factor that was set by hand stays, and so do areas that were not measured."""
    areas = {figure["area"] for figure in figures}
    new = {name: known for name, known in old.items() if name.split(":")[0] not in areas}
    for figure in figures:
        if figure["ratio"] is not None:
            kept = old.get(key(figure), {}).get("factor", factor(figure))
            new[key(figure)] = {"ratio": float(f"{figure['ratio']:.4g}"), "factor": kept}
    return dict(sorted(new.items()))


def baseline(figures):
    old = json.loads(BASELINE.read_text())["figures"] if BASELINE.exists() else {}
    new = renewed(figures, old)
    whole = {"measured": dates(figures), "machine": machine(), "figures": new}
    BASELINE.write_text(json.dumps(whole, indent=2) + "\n")
    print(f"tests/golden/bench.json has {len(new)} ratios")
    return 0


def main():
    commands = {"collect": collect, "check": check, "baseline": baseline}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    figures = results()
    if not figures:
        sys.exit("nothing was measured: make bench")
    sys.exit(commands[sys.argv[1]](figures))


if __name__ == "__main__":
    main()
