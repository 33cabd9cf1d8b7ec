"""tally.py counts what runners really print; a wrong count would hide a failure."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tally import count  # noqa: E402

DOCTEST = "[doctest] doctest version is \"2.4.9\"\n[doctest] test cases:  11 |  {} passed | {} failed | 0 skipped\n[doctest] assertions: 90 | 90 passed | 0 failed |\n"
UNITTEST = "test_a ... ok\n\n----------\nRan {} tests in 0.1s\n\n{}\n"


class Count(unittest.TestCase):
    def test_doctest(self):
        self.assertEqual(count(DOCTEST.format(11, 0), 0), (11, 0, 0))
        self.assertEqual(count(DOCTEST.format(9, 2), 1), (9, 2, 0))

    def test_unittest(self):
        self.assertEqual(count(UNITTEST.format(5, "OK"), 0), (5, 0, 0))
        self.assertEqual(count(UNITTEST.format(5, "OK (skipped=2)"), 0), (3, 0, 2))
        self.assertEqual(count(UNITTEST.format(9, "FAILED (failures=1, errors=2, skipped=3)"), 1), (3, 3, 3))
        self.assertEqual(count(UNITTEST.format(2, "FAILED (failures=1, unexpected successes=1)"), 1), (0, 2, 0))
        self.assertEqual(count(UNITTEST.format(0, "FAILED (errors=1)"), 1), (0, 1, 0))
        self.assertEqual(count(UNITTEST.format(0, "OK (skipped=1)"), 0), (0, 0, 1))

    def test_plain(self):
        self.assertEqual(count("a table\n7 passed, 0 failed, 1 skipped\n", 0), (7, 0, 1))
        self.assertEqual(count("7 passed, 2 failed\n", 1), (7, 2, 0))
        self.assertEqual(count("all fine\n", 0), (1, 0, 0))

    def test_a_crash_is_a_failure(self):
        self.assertEqual(count("", -11), (0, 1, 0))
        self.assertEqual(count(DOCTEST.format(11, 0), 1), (11, 1, 0))  # a leak that was found after the last test

    def test_running_nothing_is_a_failure(self):
        self.assertEqual(count(UNITTEST.format(0, "OK"), 0), (0, 1, 0))
        self.assertEqual(count("[doctest] test cases: 0 | 0 passed | 0 failed | 0 skipped\n", 0), (0, 1, 0))


if __name__ == "__main__":
    unittest.main()
