#!/usr/bin/env python3
"""One table of all figures that the benches measured, and a check of them against what was asked and what was.

    tools/bench.py collect     print the table; write docs/bench.json and the tables in docs/performance.md
    tools/bench.py check       1 when a figure misses what was asked of it, or is worse than tests/golden/bench.json
    tools/bench.py baseline    make what was measured the baseline

The benches leave their figures in target/bench/*.json (tests/src/figures.rs). Absolute figures depend on the machine;
the ratio to a reference that ran in the same session does so far less. So the check fails for a ratio that is worse than
the baseline's, and for bytes and gas, which are the same on any machine; another figure without a reference that is worse
is only worth a look. What is asked of a figure stands in its bench's source, and holds wherever it runs.

Figures measured with BENCH_SECONDS are trials: they are printed, and neither written nor judged.
"""
import json
import math
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target") / "bench"
BASELINE = TOP / "tests/golden/bench.json"
JSON = TOP / "docs/bench.json"
DOCUMENT = TOP / "docs/performance.md"
# Parts of the document that are made here.
TABLE, TARGETS = "bench", "asked"

AREAS = ("broker", "chain", "proof", "small")
HEADING = ("area", "figure", "Windlass", "reference", "ratio", "asked")
LOOP = "the article's loop"
DURABILITY = ("Windlass: one fsync for each group of readings before any of them is acknowledged. mosquitto and rumqttd keep "
              "all in memory; the article's loop stores nothing of its own; the plain file has one fdatasync for each group.")
# What a ratio may become, as a factor of the baseline's: of a rate, of a cost.
HIGHER, LOWER = 0.7, 1.4
# Costs that vary more from run to run, by a part of their name.
VARIES = (("come back", 5.0), ("p99", 2.5), ("p50", 2.0), ("journal commit", 2.0))
# What does not depend on the machine, by its unit, and what it may become: batches fall a little differently each time.
EXACT, SAME = ("B", "gas"), 1.1


def results(folder=None):
    """The figures of all areas that were measured, each with its area."""
    files = [json.loads(path.read_text()) for path in (folder or RESULTS).glob("*.json")]
    return in_order([{"area": file["area"], **figure} for file in files for figure in file["figures"]])


def in_order(figures):
    return sorted(figures, key=lambda figure: AREAS.index(figure["area"]))


def areas(figures):
    """Those that have figures, in their order."""
    return list(dict.fromkeys(figure["area"] for figure in figures))


def without_trials(figures):
    """The figures of areas that were measured for as long as is usual, and the names of the others."""
    trials = areas([figure for figure in figures if figure["trial"]])
    return [figure for figure in figures if figure["area"] not in trials], trials


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


def asked(figure):
    """What is asked of it, in words."""
    limit = figure["asked"]
    if limit is None:
        return ""
    if limit["of"] == "ratio":
        return f"{limit['bound']} {number(limit['limit'])} x {(figure['reference'] or {'name': 'a reference'})['name']}"
    return f"{limit['bound']} {number(limit['limit'])} {figure['unit']}"


def within(bound, value, limit):
    return value >= limit if bound == "at least" else value <= limit


def holds(figure):
    """Whether it is as was asked of it. A ratio that there is none of is not."""
    limit = figure["asked"]
    value = figure[limit["of"]]
    return value is not None and within(limit["bound"], value, limit["limit"])


def row(figure):
    """A line of the table."""
    reference, ratio = figure["reference"], figure["ratio"]
    beside = f"{number(reference['value'])} {figure['unit']}, {reference['name']}" if reference else ""
    ours = f"{number(figure['value'])} {figure['unit']}"
    return [figure["area"], figure["name"], ours, beside, "" if ratio is None else number(ratio), asked(figure)]


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


def lines_of(rows):
    return [f"| {' | '.join(cells)} |" for cells in rows]


def places(figures, machines):
    """When the areas were measured, and on what: a line for each machine."""
    hosts = []
    for area in areas(figures):
        if machines[area] not in hosts:
            hosts.append(machines[area])
    lines = []
    for host in hosts:
        there = [figure for figure in figures if machines[figure["area"]] == host]
        which = "" if len(hosts) == 1 else f"{', '.join(areas(there))}: "
        lines.append(f"{which}Measured on {dates(there)}: {host['cores']} cores, {host['memory_gib']} GiB, {host['kernel']}, "
                     f"{host['architecture']}; brokers, node and load on the same machine.")
    return lines


def markdown(figures, machines):
    """The table of the document: where and when, the figures, the conditions that the last column numbers."""
    conditions = list(dict.fromkeys(figure["conditions"] for figure in figures))
    lines = [*places(figures, machines), "", DURABILITY, ""]
    lines += lines_of([[*HEADING, "under"], ["---"] * (len(HEADING) + 1)])
    lines += lines_of([*row(figure), str(conditions.index(figure["conditions"]) + 1)] for figure in figures)
    lines.append("")
    lines += [f"{place}. {text}" for place, text in enumerate(conditions, 1)]
    return "\n".join(lines)


def alike(figures):
    """Figures of one kind of which the same is asked, in groups: such as all proof files."""
    groups = {}
    for figure in (figure for figure in figures if figure["asked"]):
        kind = (figure["area"], figure["name"].split(", ")[0], asked(figure))
        groups.setdefault(kind, []).append(figure)
    return groups.values()


def worst(group):
    """The one that is furthest from what is asked, or nearest to its limit."""
    limit = group[0]["asked"]
    of = lambda figure: -math.inf if figure[limit["of"]] is None else figure[limit["of"]]
    return min(group, key=of) if limit["bound"] == "at least" else max(group, key=of)


def targets(figures):
    """What was asked, what was measured, and by which command; then what stands beside the article's loop."""
    lines = lines_of([["figure", "asked", "measured", "", "command"], ["---"] * 5])
    for group in alike(figures):
        figure = worst(group)
        measured = f"{number(figure['value'])} {figure['unit']}"
        if figure["asked"]["of"] == "ratio":
            ratio = "no reference" if figure["ratio"] is None else f"{number(figure['ratio'])} x"
            measured = f"{ratio} ({measured})"
        verdict = "holds" if all(map(holds, group)) else "**does not hold**"
        name = figure["name"] if len(group) == 1 else f"{figure['name']} (the worst of {len(group)})"
        lines += lines_of([[name, asked(figure), measured, verdict, f"`{figure['command']}`"]])
    for figure in figures:
        if (figure["reference"] or {}).get("name") == LOOP and figure["ratio"] is not None:
            lines += lines_of([[figure["name"], f"the ratio to {LOOP}", f"{number(figure['ratio'])} x", "", f"`{figure['command']}`"]])
    return "\n".join(lines)


def with_block(document, name, block):
    """The document with this between its markers."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if document.count(begin) != 1 or document.count(end) != 1:
        raise SystemExit(f"docs/performance.md needs {begin} and {end} once each")
    before, rest = document.split(begin)
    return f"{before}{begin}\n{block}\n{end}{rest.split(end)[1]}"


def merged(figures, host, known):
    """What the document is to hold: what was measured, and of the other areas what it held. Figures and their machines."""
    measured = areas(figures)
    kept = [figure for figure in known.get("figures", []) if figure["area"] not in measured]
    machines = {area: known["machines"][area] for area in areas(kept)}
    machines.update({area: host for area in measured})
    return in_order(figures + kept), machines


def written(figures, host):
    """Writes what was measured beside what stands in docs/bench.json."""
    known = json.loads(JSON.read_text()) if JSON.exists() else {}
    figures, machines = merged(figures, host, known)
    whole = {"measured": dates(figures), "machines": machines, "durability": DURABILITY, "figures": figures}
    JSON.write_text(json.dumps(whole, indent=2) + "\n")
    document = with_block(DOCUMENT.read_text(), TABLE, markdown(figures, machines))
    DOCUMENT.write_text(with_block(document, TARGETS, targets(figures)))


def tell_trials(trials):
    if trials:
        print(f"trials, measured with BENCH_SECONDS: {', '.join(trials)}; nothing is written or judged of them")


def collect(figures):
    print(aligned([list(HEADING)] + [row(figure) for figure in figures]))
    whole, trials = without_trials(figures)
    tell_trials(trials)
    if whole:
        written(whole, machine())
    return 0


def factor(figure):
    """How far it, or its ratio, may go from the baseline's."""
    if figure["ratio"] is None and figure["unit"] in EXACT:
        return SAME
    if figure["better"] == "higher":
        return HIGHER
    return next((wide for part, wide in VARIES if part in figure["name"]), LOWER)


def compared(figure):
    """What of it is compared with the baseline."""
    return "value" if figure["ratio"] is None else "ratio"


def judged(figure, known):
    """A verdict against the baseline, and what it rests on."""
    of = compared(figure)
    if known is None or of not in known:
        return "new", f"{number(figure[of])}, not in the baseline"
    was, limit = known[of], known[of] * known["factor"]
    bound = "at least" if figure["better"] == "higher" else "at most"
    why = f"{number(figure[of])}, was {number(was)}, {bound} {number(limit)}"
    if within(bound, figure[of], limit):
        return "ok", why
    return "REGRESSION" if of == "ratio" or figure["unit"] in EXACT else "look", why


def comparisons(figures, baseline):
    """Each figure's verdicts, its name and why; also for those that a measured area has no longer."""
    measured = {key(figure) for figure in figures}
    lines = []
    for figure in figures:
        if figure["asked"]:
            _, _, ours, _, ratio, words = row(figure)
            seen = ours if figure["asked"]["of"] == "value" else ratio or "no ratio"
            lines.append(["met" if holds(figure) else "MISSED", key(figure), f"{seen}, asked: {words}"])
        verdict, why = judged(figure, baseline.get(key(figure)))
        lines.append([verdict, key(figure), why])
    for name, known in baseline.items():
        if name not in measured and name.split(":")[0] in areas(figures):
            lines.append(["MISSING", name, f"was {number(known.get('ratio', known.get('value')))}"])
    return lines


def check(figures):
    if not BASELINE.exists():
        print("there is no tests/golden/bench.json to check against: make bench-baseline")
        return 1
    whole, trials = without_trials(figures)
    tell_trials(trials)
    if not whole:
        return 0
    lines = comparisons(whole, json.loads(BASELINE.read_text())["figures"])
    print(aligned(lines))
    words = [verdict for verdict, _, _ in lines]
    bad, worth = sum(word.isupper() for word in words), words.count("look")
    if worth:
        print(f"{worth} are worth a look: worse than on the baseline's machine, and without a reference to tell why")
    print(f"{bad} of {len(lines)} are worse than was asked or than the baseline allows" if bad else "nothing missed, no regression")
    return 1 if bad else 0


def renewed(figures, old):
    """The baseline of these figures. A factor that was set by hand stays, and so do areas that were not measured."""
    new = {name: known for name, known in old.items() if name.split(":")[0] not in areas(figures)}
    for figure in figures:
        kept = old.get(key(figure), {}).get("factor", factor(figure))
        new[key(figure)] = {compared(figure): float(f"{figure[compared(figure)]:.4g}"), "factor": kept}
    return dict(sorted(new.items()))


def baseline(figures):
    whole, trials = without_trials(figures)
    tell_trials(trials)
    if not whole:
        return 1
    old = json.loads(BASELINE.read_text())["figures"] if BASELINE.exists() else {}
    new = renewed(whole, old)
    BASELINE.write_text(json.dumps({"measured": dates(whole), "machine": machine(), "figures": new}, indent=2) + "\n")
    print(f"tests/golden/bench.json has {len(new)} figures")
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
