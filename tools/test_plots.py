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
            "disk_bytes": 90.0, "gas": 4.0}
    return base | more


DATA = {"seconds": 20, "by_devices": [row(100, 1000, 1000), row(1000, 1000, 1000), row(15000, 1000, 1000)],
        "by_rate": [row(500, 10, 10, gas=4000.0), row(500, 10000, 9990, cpu_us=55.0), row(500, 60000, 31000, unsent=5)]}


class Plots(unittest.TestCase):
    def test_a_line_is_found_again(self):
        base, slope = plots.least_squares([(x, 50 + 0.01 * x) for x in (100, 1000, 15000)])
        self.assertAlmostEqual(base, 50)
        self.assertAlmostEqual(slope, 0.01)

    def test_the_model_is_of_the_busiest_point_that_held(self):
        costs = plots.model(DATA)
        self.assertEqual((costs["cpu_us"], costs["at"], costs["ceiling"]), (55.0, 10000, 31000))
        self.assertAlmostEqual(costs["device_kib"], 10.24)

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
        self.assertIn("| cores for readings | 0.917 | 55.0 |", text)


if __name__ == "__main__":
    unittest.main()
