"""The pure parts of tools/plots.py."""
import sys
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import plots


def row(devices, offered, accepted, **more):
    base = {"devices": devices, "offered_per_second": offered, "accepted_per_second": accepted, "readings": 1, "lost": 0,
            "unsent": 0, "ack_p50_ms": 1.0, "ack_p99_ms": 2.0, "mined_p99_s": 1.5, "idle_mib": 40.0,
            "resident_mib": 50 + devices / 100, "cpu_us": 60.0, "node_cpu_us": 5.0, "load_cpu_us": 20.0,
            "disk_bytes": 90.0, "log_mib": 64.0, "gas": 4.0}
    return base | more


def rates(*rows):
    return DATA | {"by_rate": list(rows)}


DATA = {"seconds": 20, "cores": 2,
        "by_devices": [row(100, 1000, 1000), row(1000, 1000, 1000, cpu_us=100.0), row(15000, 1000, 1000, cpu_us=300.0, disk_bytes=160.0)],
        "by_rate": [row(500, 10, 10, gas=4000.0), row(500, 10000, 9990, cpu_us=55.0), row(500, 60000, 31000, unsent=5)]}
KEPT_UP = row(500, 10000, 9990)


class Plots(unittest.TestCase):
    def test_a_line_is_found_again(self):
        base, slope = plots.least_squares([(x, 50 + 0.01 * x) for x in (100, 1000, 15000)])
        self.assertAlmostEqual(base, 50)
        self.assertAlmostEqual(slope, 0.01)

    def test_the_most_that_was_settled_is_not_what_was_only_accepted(self):
        costs = plots.model(DATA)
        self.assertEqual((costs["full"]["cpu_us"], costs["sustained"], costs["ceiling"]), (55.0, 9990, 31000))
        self.assertAlmostEqual(costs["device_kib"], 10.24)
        late = plots.model(rates(KEPT_UP, row(500, 60000, 59900, mined_p99_s=10.0)))
        self.assertEqual((late["sustained"], late["ceiling"]), (9990, 59900))

    def test_a_million_devices_cost_what_devices_cost_that_send_as_often(self):
        rarely, each_second = plots.model(DATA)["rows"]
        self.assertEqual((rarely["devices"], each_second["devices"]), (15000, 1000))
        self.assertEqual([plots.whose(r) for r in (rarely, each_second)],
                         ["15,000 devices, each a reading in 15.0 s", "1,000 devices, each 1.00 readings a second"])
        # As near from below as from above: the one with more devices.
        self.assertEqual(plots.nearest([row(100, 200, 200), row(400, 200, 200)], 1.0)["devices"], 400)

    def test_what_falls_behind_first_is_named_out_of_the_figures(self):
        behind, full = row(500, 60000, 59900, mined_p99_s=10.0), row(500, 120000, 80000, unsent=9, mined_p99_s=20.0)
        text = plots.saturation(rates(KEPT_UP, behind, full))
        self.assertIn("At 60,000/s the chain side is the first to fall behind", text)
        self.assertIn("At 120,000/s acceptance is at its end too: 80,000/s are accepted", text)
        self.assertIn("cores of the machine's 2", text)
        self.assertIn("The end of acceptance was not reached", plots.saturation(rates(KEPT_UP, behind)))
        self.assertIn("60,000/s acceptance is the first to fall behind", plots.saturation(DATA))
        self.assertIn("fall behind together", plots.saturation(rates(KEPT_UP, full)))
        self.assertIn("Nothing fell behind: 10,000/s is not saturation", plots.saturation(rates(KEPT_UP)))

    def test_marks_enclose_what_is_shown(self):
        for low, high in ((10, 60000), (0.3, 0.9)):
            marks = plots.ticks(low, high, True)
            self.assertTrue(marks[0] <= low and high <= marks[-1])
        for high in (0.7, 1.9, 55.0, 264.0, 31000):
            marks = plots.ticks(0, high, False)
            self.assertTrue(marks[-1] >= high and 2 <= len(marks) <= 8, (high, marks))

    def test_numbers_have_three_digits(self):
        self.assertEqual([plots.number(v) for v in (0, 0.0123, 1.5, 99.4, 12345.6)], ["0", "0.0123", "1.50", "99.4", "12,346"])

    def test_pictures_are_well_formed(self):
        for text in (plots.by_devices(DATA), plots.by_rate(DATA)):
            root = ElementTree.fromstring(text)
            self.assertGreater(len(root.findall(".//{http://www.w3.org/2000/svg}polyline")), 3)

    def test_a_million_devices_multiply_the_measured_costs(self):
        text = plots.million(plots.model(DATA))
        self.assertIn("| readings a second | 16,667 | 1,000,000 |", text)
        self.assertIn("| cores for readings | 5.00 | 100 |", text)
        self.assertIn("| journal a day | 230 GB | 7,776 GB |", text)
        self.assertIn("| gateways' worth of the most that was settled as it came | 1.67 | 100 |", text)


if __name__ == "__main__":
    unittest.main()
