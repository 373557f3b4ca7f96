"""Counting the inputs of the fuzz benchmark."""


def test_fuzzed_inputs_are_counted_over_all_tests_and_phases():
    import fuzz

    phases = (
        "- 1000 passing, 0 failing, and 5 invalid test cases",
        "- 7 passing, 2 failing, and 0 invalid test cases",
    )
    assert fuzz.count("  - during generate phase\n    ".join(("", *phases))) == (1007, 2)
    rows = [{"inputs": "files", "times": 5, "passing": 1007, "failing": 2}]
    assert fuzz.table(rows).splitlines()[-1] == "| files | 1,009 | 2 |"
