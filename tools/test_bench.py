"""What tools/bench.py makes of the benches' figures. `python3 -m unittest discover -s tools`"""
import json
import tempfile
import unittest
from pathlib import Path

import bench

HOST = {"cores": 2, "memory_gib": 24, "kernel": "Linux 6.1", "architecture": "x86_64"}


def figure(name="acknowledged", value=300.0, reference=200.0, better="higher", **more):
    beside = None if reference is None else {"name": "mosquitto", "value": reference}
    return {"area": "broker", "name": name, "unit": "1/s", "better": better, "value": value, "reference": beside,
            "ratio": None if reference is None else value / reference, "conditions": "500 clients",
            "measured_at": 1_700_000_000, **more}


def verdicts(figures, baseline):
    return [(verdict, name) for verdict, name, _ in bench.comparisons(figures, baseline)]


class Table(unittest.TestCase):
    def test_numbers_keep_three_digits(self):
        numbers = (0, 0.0401, 1.5, 15.55, 346_285.4)
        self.assertEqual([bench.number(n) for n in numbers], ["0", "0.0401", "1.50", "15.6", "346,285"])

    def test_a_row_has_the_reference_and_the_ratio_beside_the_figure(self):
        self.assertEqual(bench.row(figure()), ["broker", "acknowledged", "300 1/s", "200 1/s, mosquitto", "1.50"])
        self.assertEqual(bench.row(figure(reference=None)), ["broker", "acknowledged", "300 1/s", "", ""])

    def test_columns_are_aligned(self):
        self.assertEqual(bench.aligned([["a", "b"], ["long", "c"]]), "a     b\nlong  c")

    def test_the_block_says_when_where_and_how_durable(self):
        block = bench.markdown([figure(), figure("later", conditions="idle")], HOST)
        self.assertIn("Measured on 2023-11-14: 2 cores, 24 GiB, Linux 6.1, x86_64", block)
        self.assertIn("before any of them is acknowledged", block)
        self.assertIn("| broker | acknowledged | 300 1/s | 200 1/s, mosquitto | 1.50 | 1 |", block)
        self.assertTrue(block.endswith("1. 500 clients\n2. idle"))

    def test_the_block_replaces_the_one_before(self):
        document = f"head\n{bench.BEGIN}\nold\n{bench.END}\ntail\n"
        once = bench.with_block(document, "new")
        self.assertEqual(once, f"head\n{bench.BEGIN}\nnew\n{bench.END}\ntail\n")
        self.assertEqual(bench.with_block(once, "new"), once)
        with self.assertRaises(SystemExit):
            bench.with_block("no markers", "new")

    def test_the_document_has_the_markers(self):
        bench.with_block(bench.DOCUMENT.read_text(), "new")

    def test_results_come_in_the_order_of_the_areas(self):
        with tempfile.TemporaryDirectory() as folder:
            for area in ("small", "broker"):
                file = {"area": area, "figures": [{"name": "n"}]}
                (Path(folder) / f"{area}.json").write_text(json.dumps(file))
            self.assertEqual([f["area"] for f in bench.results(Path(folder))], ["broker", "small"])


class Check(unittest.TestCase):
    RATE, COST = "broker: acknowledged / mosquitto", "broker: memory / mosquitto"

    def test_a_rate_may_fall_to_its_factor_and_no_further(self):
        known = {self.RATE: {"ratio": 2.0, "factor": 0.7}}
        self.assertEqual(verdicts([figure(value=280.0)], known), [("ok", self.RATE)])
        self.assertEqual(verdicts([figure(value=279.0)], known), [("REGRESSION", self.RATE)])

    def test_a_cost_may_rise_to_its_factor_and_no_further(self):
        known = {self.COST: {"ratio": 1.0, "factor": 1.4}}
        for value, verdict in ((279.0, "ok"), (281.0, "REGRESSION")):
            self.assertEqual(verdicts([figure("memory", value, better="lower")], known), [(verdict, self.COST)])

    def test_figures_without_a_reference_are_only_shown(self):
        self.assertEqual(verdicts([figure(reference=None)], {}), [("shown", "broker: acknowledged")])

    def test_a_figure_that_is_new_is_no_regression(self):
        self.assertEqual(verdicts([figure()], {}), [("new", self.RATE)])

    def test_a_figure_that_is_gone_is_told_where_its_area_was_measured(self):
        known = {self.COST: {"ratio": 1.0, "factor": 1.4}, "chain: gas / loop": {"ratio": 1.0, "factor": 1.4}}
        self.assertEqual(verdicts([figure()], known), [("new", self.RATE), ("MISSING", self.COST)])

    def test_what_varies_more_is_allowed_more(self):
        self.assertEqual(bench.factor(figure("ack p99", better="lower")), 2.5)
        self.assertEqual(bench.factor(figure("memory", better="lower")), 1.4)
        self.assertEqual(bench.factor(figure()), 0.7)

    def test_a_new_baseline_keeps_factors_and_areas_that_were_not_measured(self):
        old = {self.RATE: {"ratio": 9.0, "factor": 0.5}, self.COST: {"ratio": 1.0, "factor": 1.4},
               "chain: gas / loop": {"ratio": 1.0, "factor": 1.4}}
        new = bench.renewed([figure(), figure("alone", reference=None)], old)
        self.assertEqual(new, {self.RATE: {"ratio": 1.5, "factor": 0.5}, "chain: gas / loop": old["chain: gas / loop"]})


if __name__ == "__main__":
    unittest.main()
