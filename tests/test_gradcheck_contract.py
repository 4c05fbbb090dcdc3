"""The checker's two verdicts: the gradient is right, and the pass keeps the contract of our own layers."""

import numpy as np

from siamese_np.gradcheck.adapters import function_case
from siamese_np.gradcheck.engine import Options, check_cases

X = np.random.default_rng(5).standard_normal((4, 3))


def test_the_notes_of_a_case_are_printed_in_any_event():
    for backward, verdict in ((lambda d, x: d * np.cos(x), "PASS"), (lambda d, x: None, "FAIL")):
        case = function_case("sine", lambda x: (np.sin(x), x), backward, [X])
        case.notes.append("labels are whole numbers: passed through and not checked")
        report = check_cases({"sine": [case]})
        assert report.verdict == verdict and "  note  labels are whole numbers" in str(report)
        assert case.notes == report.cases[0].notes == report.to_dict()["operations"]["sine"][0]["notes"]


def test_strict_holds_any_case_to_the_contract_of_ours():
    calls = []

    def drifts(dout, x):
        calls.append(1)
        return dout * np.cos(x) * (1 + 1e-14 * len(calls))

    case = function_case("drifts", lambda x: (np.sin(x), x), drifts, [X])
    assert check_cases({"drifts": [case]}).verdict == "PASS"
    assert check_cases({"drifts": [case]}, Options(strict=True)).verdict == "FAIL"
    assert not case.strict
