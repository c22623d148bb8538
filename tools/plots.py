#!/usr/bin/env python3
"""Pictures, tables and the cost model of docs/scaling.md, out of docs/curve.json.

    tools/plots.py            write docs/pictures/cost-*.svg and the marked part of docs/scaling.md
    tools/plots.py --check    1 when what is there is not what the figures make

`make curve` measures the figures anew.
"""
import json
import math
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
DATA = TOP / "docs/curve.json"
PAGE = TOP / "docs/scaling.md"
PICTURES = TOP / "docs/pictures"
BEGIN, END = "<!-- curve: begin -->", "<!-- curve: end -->"

# Okabe and Ito's colours, which colour-blind eyes tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73")
PANEL = (380, 250)
MARGIN = (58, 34, 14, 42)  # left, top, right, bottom

# What the extrapolation takes for granted; each is said in the page.
DEVICES = 1_000_000
MINUTE, SECOND = 1 / 60, 1.0
PACES = (("a reading a minute", MINUTE), ("a reading a second", SECOND))
BLOCK_SECONDS = 12
BATCH_READINGS = 10_000
GWEI = (1, 20)
RECONNECT_SECONDS = 300
# From scan to mined; what is slower at the 99th percentile is behind.
MINED_SECONDS = 3.0


def least_squares(points):
    """Intercept and slope of the line through (x, y)."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    slope = sum((x - mx) * (y - my) for x, y in points) / sum((x - mx) ** 2 for x, _ in points)
    return my - slope * mx, slope


def taken(row):
    """Whether the gateway took what was offered."""
    return row["unsent"] == 0 and row["accepted_per_second"] >= 0.95 * row["offered_per_second"]


def settled(row):
    """Whether the chain side kept up with what was taken."""
    return row["mined_p99_s"] <= MINED_SECONDS


def pace(row):
    """Readings a second of each device."""
    return row["offered_per_second"] / row["devices"]


def rarest(rows):
    """Of the most devices the row where each sends least: what many devices cost that send rarely."""
    most = max(row["devices"] for row in rows)
    return min((row for row in rows if row["devices"] == most), key=pace)


def nearest(rows, wanted):
    """The row whose devices send most nearly so often; of several the one with the most devices."""
    return min(rows, key=lambda row: (round(abs(math.log(pace(row) / wanted)), 6), -row["devices"]))


def model(data):
    """The costs of one device and one reading, and the rows that they are from."""
    base, each = least_squares([(row["devices"], row["resident_mib"]) for row in data["by_devices"]])
    rows = [row for row in data["by_devices"] + data["by_rate"] if taken(row) and settled(row)]
    ceiling = max(row["accepted_per_second"] for row in data["by_rate"])
    sustained = max((row["accepted_per_second"] for row in data["by_rate"] if taken(row) and settled(row)), default=0)
    full = [row for row in data["by_rate"] if taken(row) and settled(row)][-1]
    return {"base_mib": base, "device_kib": each * 1024, "full": full, "rows": (rarest(rows), nearest(rows, SECOND)),
            "ceiling": ceiling, "sustained": sustained}


def whose(row):
    """Which row it is, in words."""
    each = pace(row)
    often = f"{number(each)} readings a second" if each >= 1 else f"a reading in {number(1 / each)} s"
    return f"{number(row['devices'])} devices, each {often}"


def cores(row):
    """Of gateway, load tool and node together, for all that a reading takes until it is final, at the rate of acceptance. More
    than there are: some of it is done after the load."""
    return sum(row[what] for what in ("cpu_us", "load_cpu_us", "node_cpu_us")) * row["accepted_per_second"] / 1e6


def number(value):
    """Three significant digits, or all of them before the point."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


# Pictures.

def ticks(low, high, log):
    """Where an axis is marked."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return [10.0**power for power in range(first, last + 1)]
    step = 10 ** math.floor(math.log10(high)) / 2
    while high / step > 6:
        step *= 2
    return [step * index for index in range(math.ceil(high / step) + 1)]


def short(value):
    """A mark's text."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def place(value, marks, log, length):
    """How far along an axis a value stands."""
    scale = math.log10 if log else float
    low, high = scale(marks[0]), scale(marks[-1])
    return (scale(max(value, marks[0])) - low) / (high - low) * length


def panel(title, unit, x_name, series, log_y=False):
    """One plot: series are (name, [(x, y)]); x is logarithmic."""
    width, height = PANEL[0] - MARGIN[0] - MARGIN[2], PANEL[1] - MARGIN[1] - MARGIN[3]
    points = [point for _, line in series for point in line]
    xs = ticks(min(x for x, _ in points), max(x for x, _ in points), True)
    ys = ticks(min(y for _, y in points if y > 0) if log_y else 0, max(y for _, y in points), log_y)
    out = [f'<text x="{MARGIN[0]}" y="18" class="title">{title}<tspan class="unit" dx="6">{unit}</tspan></text>']
    for mark in xs:
        x = MARGIN[0] + place(mark, xs, True, width)
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN[1]}" y2="{MARGIN[1] + height}"/>')
        out.append(f'<text x="{x:.1f}" y="{MARGIN[1] + height + 15}" text-anchor="middle">{short(mark)}</text>')
    for mark in ys:
        y = MARGIN[1] + height - place(mark, ys, log_y, height)
        out.append(f'<line x1="{MARGIN[0]}" x2="{MARGIN[0] + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text x="{MARGIN[0] - 6}" y="{y + 4:.1f}" text-anchor="end">{short(mark)}</text>')
    out.append(f'<text x="{MARGIN[0] + width / 2}" y="{PANEL[1] - 8}" text-anchor="middle" class="unit">{x_name}</text>')
    for index, (name, line) in enumerate(series):
        colour = COLOURS[index]
        at = [(MARGIN[0] + place(x, xs, True, width), MARGIN[1] + height - place(y, ys, log_y, height)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        if name:
            y = MARGIN[1] + 14 + 15 * index
            out.append(f'<text x="{MARGIN[0] + 10}" y="{y}" style="fill:{colour};font-weight:600">{name}</text>')
    return "\n".join(out)


def picture(panels, columns, source):
    """Panels in rows, on a ground of their own, so that it is legible on any page."""
    rows = math.ceil(len(panels) / columns)
    width, height = PANEL[0] * columns + 20, PANEL[1] * rows + 40
    style = ("text{font:11px system-ui,sans-serif;fill:#333}.title{font-size:13px;font-weight:600}"
             ".unit{font-weight:400;fill:#666;font-size:11px}line{stroke:#e4e4e4}")
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
           f"<style>{style}</style>", f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for index, inner in enumerate(panels):
        x, y = 10 + PANEL[0] * (index % columns), 8 + PANEL[1] * (index // columns)
        out.append(f'<g transform="translate({x},{y})">\n{inner}\n</g>')
    out.append(f'<text x="{10 + MARGIN[0]}" y="{height - 10}" class="unit">{source}</text>\n</svg>\n')
    return "\n".join(out)


def by_devices(data):
    rows = data["by_devices"]
    line = lambda of: [(row["devices"], of(row)) for row in rows]
    panels = [
        panel("Resident memory", "MiB", "devices, connected",
              [("under load", line(lambda r: r["resident_mib"])), ("configured, none connected", line(lambda r: r["idle_mib"]))]),
        panel("Processor time", "µs a reading", "devices, connected", [("", line(lambda r: r["cpu_us"]))]),
        panel("Acknowledgement", "ms", "devices, connected",
              [("p99", line(lambda r: r["ack_p99_ms"])), ("p50", line(lambda r: r["ack_p50_ms"]))], True),
    ]
    return picture(panels, 3, f"anchor, {number(rows[0]['offered_per_second'])} readings/s in all, {data['seconds']} s each; make curve")


def by_rate(data):
    rows = data["by_rate"]
    line = lambda of, some=rows: [(row["offered_per_second"], of(row)) for row in some]
    used = lambda what: line(lambda r: r[what] * r["accepted_per_second"] / 1e6)
    some = [row for row in rows if row["offered_per_second"] >= 1000]
    offered = "readings/s, offered"
    panels = [
        panel("Accepted", "readings/s", offered, [("accepted", line(lambda r: r["accepted_per_second"])),
                                                  ("offered", line(lambda r: r["offered_per_second"]))], True),
        panel("Processor", "cores", offered,
              [("gateway", used("cpu_us")), ("load tool", used("load_cpu_us")), ("node", used("node_cpu_us"))]),
        panel("Processor time", "µs a reading", offered, [("", line(lambda r: r["cpu_us"], some))]),
        panel("From scan to", "ms", offered,
              [("mined, p99", line(lambda r: r["mined_p99_s"] * 1000)), ("acknowledged, p99", line(lambda r: r["ack_p99_ms"])),
               ("acknowledged, p50", line(lambda r: r["ack_p50_ms"]))], True),
        panel("Journal", "bytes a reading", offered, [("", line(lambda r: r["disk_bytes"], some))]),
        panel("Gas", "a reading", offered, [("", line(lambda r: r["gas"]))], True),
    ]
    return picture(panels, 3, f"anchor, {rows[0]['devices']} devices, {data['seconds']} s each; make curve")


# The page.

def table(rows):
    heading = ("devices", "offered/s", "accepted/s", "ack p50, p99", "mined p99", "memory, idle and loaded", "processor", "journal", "its log", "gas")
    lines = ["| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for row in rows:
        lines.append("| " + " | ".join((
            number(row["devices"]), number(row["offered_per_second"]), number(row["accepted_per_second"]),
            f"{number(row['ack_p50_ms'])}, {number(row['ack_p99_ms'])} ms", f"{number(row['mined_p99_s'])} s",
            f"{number(row['idle_mib'])}, {number(row['resident_mib'])} MiB", f"{number(row['cpu_us'])} µs",
            f"{number(row['disk_bytes'])} B", f"{number(row['log_mib'])} MiB" if "log_mib" in row else "", number(row["gas"]))) + " |")
    return "\n".join(lines)


def million(costs):
    """What a million devices come to, at each pace."""
    lines = ["| a million devices | " + " | ".join(name for name, _ in PACES) + " |", "|---|---|---|"]
    rates = [DEVICES * pace for _, pace in PACES]
    per = lambda of: [of(rate) for rate in rates]
    costing = lambda of: [of(rate, row) for rate, row in zip(rates, costs["rows"])]
    gas_day = lambda rate: 86_400 * (rate * costs["full"]["gas"])
    rows = [
        ("readings a second", per(number)),
        ("gateways' worth of the most that was settled as it came", per(lambda r: number(r / costs["sustained"]))),
        ("processor time and journal of a reading as measured with", [whose(row) for row in costs["rows"]]),
        ("cores for readings", costing(lambda r, row: number(r * row["cpu_us"] / 1e6))),
        ("memory of connections", per(lambda _: f"{number((costs['base_mib'] + DEVICES * costs['device_kib'] / 1024) / 1024)} GiB")),
        ("journal a day", costing(lambda r, row: f"{number(r * 86_400 * row['disk_bytes'] / 1e9)} GB")),
        ("TCP connections and file descriptors", per(lambda _: number(DEVICES))),
        (f"TLS handshakes a second when all come back within {RECONNECT_SECONDS} s", per(lambda _: number(DEVICES / RECONNECT_SECONDS))),
        (f"anchors a day, of up to {number(BATCH_READINGS)} readings, at least one a block of {BLOCK_SECONDS} s",
         per(lambda r: number(max(86_400 / BLOCK_SECONDS, 86_400 * r / BATCH_READINGS)))),
        ("gas a day, at the gas a reading of full batches", per(lambda r: number(gas_day(r)))),
        (f"of what blocks of 30,000,000 gas each {BLOCK_SECONDS} s hold", per(lambda r: f"{number(gas_day(r) / (30e6 * 86_400 / BLOCK_SECONDS) * 100)} %")),
        ("ether a day at " + " and ".join(f"{price} gwei" for price in GWEI),
         per(lambda r: " and ".join(number(gas_day(r) * price / 1e9) for price in GWEI))),
    ]
    return "\n".join(lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows])


def saturation(data):
    """What falls behind first as the rate grows, and what follows."""
    rows = data["by_rate"]
    rate = lambda row: f"{number(row['offered_per_second'])}/s"
    late = next((row for row in rows if not settled(row)), None)
    full = next((row for row in rows if not taken(row)), None)
    if late is None and full is None:
        return f"Nothing fell behind: {rate(rows[-1])} is not saturation, and what is beyond it was not measured."
    mined = lambda row: f"99 % are mined within {number(row['mined_p99_s'])} s"
    had = f" of the machine's {data['cores']}" if "cores" in data else ""
    busy = lambda row: (f"gateway, load tool and node need {number(cores(row))} cores{had} for that rate "
                        f"({number(row['cpu_us'])}, {number(row['load_cpu_us'])} and {number(row['node_cpu_us'])} µs a reading)")
    came = lambda row: f"{number(row['accepted_per_second'])}/s are accepted of {rate(row)} offered"
    first = min((row for row in (late, full) if row), key=lambda row: row["offered_per_second"])
    before = rows[:rows.index(first)]
    lines = [f"Up to {rate(before[-1])} all keep up: {mined(before[-1])}, and {busy(before[-1])}."] if before else []
    if late is full:
        lines.append(f"At {rate(first)} acceptance and the chain side fall behind together: {came(first)}, {mined(first)}; {busy(first)}.")
        return " ".join(lines)
    if first is late:
        lines.append(f"At {rate(late)} the chain side is the first to fall behind: {mined(late)}, while acceptance keeps up "
                     f"({came(late)}); {busy(late)}.")
        lines.append(f"At {rate(full)} acceptance is at its end too: {came(full)}; {busy(full)}." if full else
                     f"The end of acceptance was not reached: up to {rate(rows[-1])} all that was offered was taken.")
    else:
        lines.append(f"At {rate(full)} acceptance is the first to fall behind: {came(full)}, while what is accepted is still "
                     f"settled as it comes ({mined(full)}); {busy(full)}.")
        lines.append(f"At {rate(late)} the chain side falls behind too: {mined(late)}." if late else "The chain side keeps up throughout.")
    return " ".join(lines)


def cost(name, of, costs):
    """A line of the model: with the most readings that were settled as they came, and at each pace."""
    rows = (costs["full"], *costs["rows"])
    return f"| {name} | {' | '.join(of(row) for row in rows)} |"


def block(data):
    costs = model(data)
    return f"""
Devices grow, their rate together does not:

{table(data["by_devices"])}

![memory, processor time and acknowledgement over devices](pictures/cost-devices.svg)

The rate grows, the devices do not:

{table(data["by_rate"])}

![throughput, processor, acknowledgement, journal and gas over rate](pictures/cost-rate.svg)

{saturation(data)}

Resident memory, by least squares: {number(costs["base_mib"])} MiB + {number(costs["device_kib"])} KiB a connected device. The most that was accepted: {number(costs["ceiling"])} readings/s; that was accepted and mined as it came: {number(costs["sustained"])} readings/s. A reading costs

| | at {number(costs["full"]["offered_per_second"])}/s in all, the most that was settled as it came | where many devices send rarely | nearest to a reading a second |
|---|---|---|---|
{cost("measured with", whose, costs)}
{cost("processor time of the gateway", lambda row: f"{number(row['cpu_us'])} µs", costs)}
{cost("journal", lambda row: f"{number(row['disk_bytes'])} B", costs)}
{cost("gas", lambda row: number(row["gas"]), costs)}

{million(costs)}
"""


def outputs(data):
    """What is to stand where."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return {PICTURES / "cost-devices.svg": by_devices(data), PICTURES / "cost-rate.svg": by_rate(data),
            PAGE: before + BEGIN + block(data) + END + after}


def main(arguments):
    if not DATA.exists():
        print("docs/curve.json is not there: make curve measures it")
        return 0
    wanted = outputs(json.loads(DATA.read_text()))
    if arguments == ["--check"]:
        stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text() != text]
        if stale:
            print(f"not what docs/curve.json makes: {', '.join(stale)}; run tools/plots.py")
        return 1 if stale else 0
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
