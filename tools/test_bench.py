"""What tools/bench.py makes of the benches' figures. `python3 -m unittest discover -s tools`"""
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import bench

HOST = {"cores": 2, "memory_gib": 24, "kernel": "Linux 6.1", "architecture": "x86_64"}


def figure(name="acknowledged", value=300.0, reference=200.0, better="higher", **more):
    beside = None if reference is None else {"name": "mosquitto", "value": reference}
    return {"area": "broker", "name": name, "unit": "1/s", "better": better, "value": value, "reference": beside,
            "ratio": None if reference is None else value / reference, "conditions": "500 clients",
            "command": "make bench-broker ARGS=throughput", "measured_at": 1_700_000_000, "trial": False, "asked": None, **more}


def limit(bound, value, of="value"):
    return {"of": of, "bound": bound, "limit": value}


def verdicts(figures, baseline):
    return [(verdict, name) for verdict, name, _ in bench.comparisons(figures, baseline)]


class Table(unittest.TestCase):
    def test_numbers_keep_three_digits(self):
        numbers = (0, 0.0401, 1.5, 15.55, 346_285.4)
        self.assertEqual([bench.number(n) for n in numbers], ["0", "0.0401", "1.50", "15.6", "346,285"])

    def test_a_row_has_the_reference_and_the_ratio_beside_the_figure(self):
        self.assertEqual(bench.row(figure()), ["broker", "acknowledged", "300 1/s", "200 1/s, mosquitto", "1.50", ""])
        self.assertEqual(bench.row(figure(reference=None)), ["broker", "acknowledged", "300 1/s", "", "", ""])

    def test_what_was_asked_stands_in_the_table(self):
        asked = [bench.row(figure(asked=a))[5] for a in (limit("at least", 20_000), limit("at most", 2, "ratio"))]
        self.assertEqual(asked, ["at least 20,000 1/s", "at most 2.00 x mosquitto"])

    def test_columns_are_aligned(self):
        self.assertEqual(bench.aligned([["a", "b"], ["long", "c"]]), "a     b\nlong  c")

    def test_the_block_says_when_where_and_how_durable(self):
        block = bench.markdown([figure(), figure("later", conditions="idle")], {"broker": HOST})
        self.assertIn("Measured on 2023-11-14: 2 cores, 24 GiB, Linux 6.1, x86_64", block)
        self.assertIn("before any of them is acknowledged", block)
        self.assertIn("| broker | acknowledged | 300 1/s | 200 1/s, mosquitto | 1.50 |  | 1 |", block)
        self.assertTrue(block.endswith("1. 500 clients\n2. idle"))

    def test_the_block_replaces_the_one_before(self):
        document = "head\n<!-- bench: begin -->\nold\n<!-- bench: end -->\ntail\n"
        once = bench.with_block(document, "bench", "new")
        self.assertEqual(once, "head\n<!-- bench: begin -->\nnew\n<!-- bench: end -->\ntail\n")
        self.assertEqual(bench.with_block(once, "bench", "new"), once)
        for name in ("bench", "asked"):
            with self.assertRaises(SystemExit):
                bench.with_block("no markers", name, "new")

    def test_areas_that_were_measured_elsewhere_say_so(self):
        other = HOST | {"cores": 8}
        block = bench.markdown([figure(), figure(area="small")], {"broker": HOST, "small": other})
        self.assertIn("broker: Measured on 2023-11-14: 2 cores", block)
        self.assertIn("small: Measured on 2023-11-14: 8 cores", block)

    def test_targets_say_what_holds_and_by_which_command(self):
        beside_the_loop = figure("gas", 5.0, 10.0)
        beside_the_loop["reference"]["name"] = bench.LOOP
        text = bench.targets([figure(asked=limit("at least", 1, "ratio")), figure("p99", 4.0, None, asked=limit("at most", 3)),
                              figure("nobody asked"), beside_the_loop])
        self.assertEqual(text.splitlines()[2:], [
            "| acknowledged | at least 1.00 x mosquitto | 1.50 x (300 1/s) | holds | `make bench-broker ARGS=throughput` |",
            "| p99 | at most 3.00 1/s | 4.00 1/s | **does not hold** | `make bench-broker ARGS=throughput` |",
            "| gas | the ratio to the article's loop | 0.500 x |  | `make bench-broker ARGS=throughput` |"])

    def test_of_what_is_alike_the_worst_stands_for_all(self):
        files = [figure(f"proof file, {name}", size, None, "lower", asked=limit("at most", 300))
                 for name, size in (("a", 200.0), ("b", 301.0), ("c", 100.0))]
        [line] = bench.targets(files).splitlines()[2:]
        self.assertTrue(line.startswith("| proof file, b (the worst of 3) | at most 300 1/s | 301 1/s | **does not hold** |"), line)

    def test_the_document_holds_what_the_committed_figures_make(self):
        whole = json.loads(bench.JSON.read_text())
        figures, machines = bench.in_order(whole["figures"]), whole["machines"]
        document = bench.DOCUMENT.read_text()
        for name, block in (("bench", bench.markdown(figures, machines)), ("asked", bench.targets(figures))):
            self.assertEqual(bench.with_block(document, name, block), document)

    def test_results_come_in_the_order_of_the_areas(self):
        with tempfile.TemporaryDirectory() as folder:
            for area in ("small", "broker"):
                file = {"area": area, "figures": [{"name": "n"}]}
                (Path(folder) / f"{area}.json").write_text(json.dumps(file))
            self.assertEqual([f["area"] for f in bench.results(Path(folder))], ["broker", "small"])


class Documents(unittest.TestCase):
    """What collect, check and baseline do to the files."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name in ("JSON", "DOCUMENT", "BASELINE"):
            patch = mock.patch.object(bench, name, self.folder / name)
            patch.start()
            self.addCleanup(patch.stop)
        for name in ("machine", "print"):
            patch = mock.patch.object(bench, name, lambda *_: HOST, create=True)
            patch.start()
            self.addCleanup(patch.stop)
        bench.DOCUMENT.write_text("".join(f"<!-- {n}: begin -->\n<!-- {n}: end -->\n" for n in ("bench", "asked")))

    def names(self):
        return [figure["name"] for figure in json.loads(bench.JSON.read_text())["figures"]]

    def test_areas_that_were_not_measured_stay(self):
        bench.collect([figure("ours"), figure("tree", area="proof")])
        bench.collect([figure("hash", area="small")])
        self.assertEqual(self.names(), ["ours", "tree", "hash"])
        self.assertIn("| broker | ours |", bench.DOCUMENT.read_text())
        # Of an area that was measured what is no longer there goes.
        bench.collect([figure("theirs")])
        self.assertEqual(self.names(), ["theirs", "tree", "hash"])

    def test_trials_are_neither_written_nor_judged(self):
        bench.collect([figure("ours")])
        before = bench.DOCUMENT.read_text()
        bench.baseline([figure("ours")])
        known = bench.BASELINE.read_text()
        trial = [figure("short", 1.0, trial=True, asked=limit("at least", 100))]
        self.assertEqual((bench.collect(trial), bench.check(trial), bench.baseline(trial)), (0, 0, 1))
        self.assertEqual((self.names(), bench.DOCUMENT.read_text(), bench.BASELINE.read_text()), (["ours"], before, known))
        # Beside one area's trial another's figures count.
        bench.collect(trial + [figure("hash", area="small")])
        self.assertEqual(self.names(), ["ours", "hash"])

    def test_the_check_fails_on_a_miss_a_regression_and_what_is_gone(self):
        good = figure(asked=limit("at least", 250))
        bench.baseline([good])
        self.assertEqual(bench.check([good]), 0)
        self.assertEqual(bench.check([figure(asked=limit("at least", 301))]), 1)
        self.assertEqual(bench.check([figure(value=100.0)]), 1)
        self.assertEqual(bench.check([figure("another")]), 1)


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

    def test_a_value_without_a_reference_that_is_worse_is_worth_a_look(self):
        known = {"broker: memory": {"value": 100.0, "factor": 1.4}}
        for value, verdict in ((140.0, "ok"), (141.0, "look")):
            self.assertEqual(verdicts([figure("memory", value, None, "lower")], known), [(verdict, "broker: memory")])

    def test_bytes_and_gas_depend_on_no_machine_so_they_fail(self):
        for unit in ("B", "gas"):
            worse = figure("journal a reading", 111.0, None, "lower", unit=unit)
            known = {bench.key(worse): {"value": 100.0, "factor": bench.factor(worse)}}
            self.assertEqual(verdicts([worse], known), [("REGRESSION", "broker: journal a reading")])
            self.assertEqual(verdicts([worse | {"value": 109.0}], known), [("ok", "broker: journal a reading")])

    def test_a_target_holds_up_to_its_limit_and_is_missed_beyond(self):
        for bound, value, verdict in (("at least", 300.0, "met"), ("at least", 299.0, "MISSED"),
                                      ("at most", 300.0, "met"), ("at most", 301.0, "MISSED")):
            [(first, name), _] = verdicts([figure(value=value, asked=limit(bound, 300))], {})
            self.assertEqual((first, name), (verdict, self.RATE))
        for value, verdict in ((400.0, "met"), (402.0, "MISSED")):
            asked = limit("at most", 2, "ratio")
            self.assertEqual(verdicts([figure(value=value, asked=asked)], {})[0], (verdict, self.RATE))

    def test_a_ratio_that_there_is_none_of_misses(self):
        alone = figure(reference=None, asked=limit("at least", 1, "ratio"))
        self.assertEqual(verdicts([alone], {})[0], ("MISSED", "broker: acknowledged"))

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
        self.assertEqual(new, {self.RATE: {"ratio": 1.5, "factor": 0.5}, "broker: alone": {"value": 300.0, "factor": 0.7},
                               "chain: gas / loop": old["chain: gas / loop"]})


if __name__ == "__main__":
    unittest.main()
