"""Tests of the driver: python3 -m unittest discover benches/compare. With HURTIG=path also against a real binary."""

import json
import os
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import compare
import flink
import hurtig
import process
import report


class Fake:
    """An engine with a rate, whose checkpoints come at every interval."""

    def __init__(self, name, rate, checksum="00ff"):
        self.name, self.rate, self.checksum, self.runs = name, rate, checksum, []
        self.binary, self.classes, self.jobmanager_memory = HERE / "test_compare.py", HERE, "1g"

    def describe(self):
        return self.name

    def is_optimised(self):
        return True

    def statements(self, run):
        return run.query

    def run(self, run, folder):
        self.runs.append(run)
        seconds = run.events / self.rate
        return {
            "seconds": seconds, "wall_seconds": seconds, "process_seconds": seconds, "second_half_seconds": seconds / 2,
            "cpu_seconds": seconds, "cpu_job_seconds": seconds, "memory_bytes": 100_000_000, "memory_by_process": [],
            "checkpoints": int(seconds * 1000 / run.interval_ms), "checkpoint_bytes": 1, "rows_out": 1, "net_rows": 1,
            "checksum": self.checksum,
        }


class Comparing(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name)
        for target in ("compare.say", "compare.machine.calibrate"):
            patch = mock.patch(target, return_value=1.0)
            patch.start()
            self.addCleanup(patch.stop)

    def compare(self, ours, theirs, *arguments):
        command = ["compare.py", "--hurtig", "x", "--out", str(self.out), "--tables", "columns", *arguments]
        flinks = theirs if callable(theirs) else lambda memory: theirs
        with mock.patch("sys.argv", command), mock.patch("compare.hurtig.Hurtig", return_value=ours), mock.patch(
            "compare.flink.Flink", side_effect=flinks
        ), mock.patch("compare.Compare.check_events"):
            try:
                compare.main()
            except SystemExit as end:
                self.assertNotEqual(end.code, 0)
        return json.loads((self.out / "results.json").read_text())["tables"]["columns"]

    def test_a_query_with_another_result_is_wrong_and_not_timed(self):
        ours, theirs = Fake("hurtig", 1e6, checksum="00fe"), Fake("flink", 1e5)
        [entry] = self.compare(ours, theirs, "--queries", "q2")
        self.assertIn("checksum: Flink 00ff, Hurtig 00fe", entry["check"])
        self.assertEqual((len(ours.runs), entry["rounds"]), (1, []))
        self.assertNotIn("ratio_whole", entry["summary"])
        self.assertIn("**wrong: checksum", (self.out / "results.md").read_text())
        self.assertIn("wrong: checksum: Flink", (self.out / "results.svg").read_text())

    def test_engines_run_in_turn_until_both_have_their_checkpoints(self):
        ours, theirs = Fake("hurtig", 1e6), Fake("flink", 2e5)
        [entry] = self.compare(ours, theirs, "--queries", "q0", "--events", "2000000", "--max-events", "4000000")
        # 4 M events take 4 s, which is not enough either: then the interval is shorter.
        self.assertEqual(entry["events"], 4_000_000)
        self.assertLess(entry["interval_ms"], 800)
        self.assertEqual([c.split()[0] for c in entry["changed"]], ["events", "interval"])
        self.assertTrue(all(r[e]["checkpoints"] >= 5 for r in entry["rounds"] for e in ("hurtig", "flink")))
        self.assertTrue(entry["summary"]["counts"])
        self.assertAlmostEqual(entry["summary"]["ratio_whole"], 5.0)
        timed = [(r.events, r.interval_ms) for r in theirs.runs[1:]]
        self.assertEqual(timed, [(4_000_000, entry["interval_ms"])] * 2)

    def test_what_was_measured_is_not_measured_again(self):
        first = self.compare(Fake("hurtig", 1e6), Fake("flink", 2e5), "--queries", "q0")
        ours, theirs = Fake("hurtig", 9e6), Fake("flink", 2e5)
        again = self.compare(ours, theirs, "--queries", "q0,q1")
        self.assertEqual(again[0], first[0])
        self.assertEqual({r.query for r in ours.runs}, {"q1"})

    def test_clocks_that_disagree_do_not_count(self):
        ours = Fake("hurtig", 1e6)
        run = ours.run
        ours.run = lambda r, folder: {**run(r, folder), "wall_seconds": 1.06 * r.events / 1e6}
        [entry] = self.compare(ours, Fake("flink", 2e5), "--queries", "q0")
        self.assertFalse(entry["summary"]["counts"])
        self.assertIn("outside and reported time differ (hurtig)", entry["summary"]["why"])

    def test_the_smallest_memory_keeps_nine_tenths_of_the_rate(self):
        self.compare(Fake("hurtig", 1e6), Fake("flink", 2e5), "--queries", "q0")
        tried = []

        def with_memory(size="4g"):
            engine = Fake("flink", 1.9e5 if int(size.rstrip("mg")) >= 1024 or size == "4g" else 1.7e5)
            tried.append(size)
            return engine

        self.compare(Fake("hurtig", 1e6), with_memory, "--queries", "q0", "--memory")
        memory = json.loads((self.out / "results.json").read_text())["memory"]["q0"]
        self.assertEqual(memory["taskmanager_mb"], 1024)
        self.assertLessEqual(len(tried), 6)
        self.assertIn("1024 MB, peak 100 MB", (self.out / "results.md").read_text())

    def test_the_chart_is_well_formed(self):
        ours = Fake("hurtig", 3e5)
        ours.describe = lambda: "a <&> b"
        self.compare(ours, Fake("flink", 2e5), "--queries", "q0,source,q12")
        root = xml.etree.ElementTree.parse(self.out / "results.svg").getroot()
        texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
        self.assertEqual([t for t in texts if t in ("q0", "source", "q12")], ["q0", "source", "q12"])
        self.assertEqual(texts.count("1.5"), 6)


class Events(unittest.TestCase):
    def test_the_first_difference_is_named(self):
        event = {"event_type": 2, "bid": {"price": 7, "dateTime": "2015-07-15 00:00:00.5"}}
        same = {"event_type": 2, "bid": {"price": 7, "dateTime": "2015-07-15 00:00:00.500"}}
        self.assertIsNone(compare.first_difference(event, same))
        other = {"event_type": 2, "bid": {"price": 8, "dateTime": "2015-07-15 00:00:00.5"}}
        self.assertIn("event.bid.price: Hurtig 7, Java 8", compare.first_difference(event, other))
        self.assertIsNotNone(compare.first_difference(event, None))


class Processes(unittest.TestCase):
    def test_lines_are_timed_and_usage_is_of_all_processes(self):
        program = "import time; x = bytearray(80_000_000); print('started', flush=True); time.sleep(0.3); print('finished a 1', flush=True)"
        with process.Group() as group:
            programs = [group.start([sys.executable, "-c", program]) for _ in range(2)]
            begin = [p.wait_for("started", 60) for p in programs]
            end = [p.wait_for("finished", 60) for p in programs]
            usage = group.wait()
        self.assertTrue(all(e.time - b.time > 0.2 for b, e in zip(begin, end)))
        self.assertEqual(end[0].line, "finished a 1")
        self.assertGreater(usage.memory_bytes, 160_000_000)
        self.assertGreater(usage.cpu_seconds, 0)

    def test_a_process_that_ends_early_says_why(self):
        with process.Group() as group:
            program = group.start([sys.executable, "-c", "raise ValueError('no memory')"])
            with self.assertRaisesRegex(process.Ended, "no memory"):
                program.wait_for("started", 60)


@unittest.skipUnless(os.environ.get("HURTIG"), "HURTIG names no binary")
class WrongPlans(unittest.TestCase):
    """A real Hurtig beside the results that real Flink had."""

    def run_query(self, query, sql=""):
        recorded = json.loads((flink.JAVA_SOURCES / "results.json").read_text())
        run = compare.Run(query, "columns", recorded["events"], recorded["event_rate"], 2, 1000, compare.SETTINGS, 300, hurtig_sql=sql)
        with tempfile.TemporaryDirectory() as folder:
            found = hurtig.Hurtig(os.environ["HURTIG"]).run(run, pathlib.Path(folder))
        return compare.difference_of_results(recorded["results"][query], found)

    def test_the_right_plan_is_equal_and_wrong_ones_are_noticed(self):
        self.assertEqual(self.run_query("q2"), "equal")
        wrong = {
            "q2": "SELECT auction, price FROM bid WHERE MOD(auction, 124) = 0",
            "q12": "SELECT bidder, COUNT(*), window_start, window_end FROM TABLE(TUMBLE(TABLE bid, "
                   "DESCRIPTOR(`dateTime`), INTERVAL '11' SECOND)) GROUP BY bidder, window_start, window_end",
        }
        for query, sql in wrong.items():
            self.assertRegex(self.run_query(query, sql), "checksum: Flink [0-9a-f]{16}, Hurtig [0-9a-f]{16}")


if __name__ == "__main__":
    unittest.main()
