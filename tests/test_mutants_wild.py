"""Faults met in public code are all found; how many of them the hints name is counted."""

import functools
import re
import zlib

import numpy as np
import pytest
from mutants import case_of
from mutants_wild import MUTANTS, OPERATIONS

from siamese_np.gradcheck.engine import Options, check_case

SEEDS = range(3)


@functools.cache
def check(operation, backward, seed):
    """The results at the points of a seed, checked as a black box, like a user's code."""
    points = OPERATIONS[operation].points(np.random.default_rng([seed, zlib.crc32(operation.encode())]))
    return [
        check_case(case_of(OPERATIONS[operation], backward, arrays, "wild", declared=False), Options(seed))
        for arrays in points
    ]


def verdicts(operation, backward):
    return [result.verdict for seed in SEEDS for result in check(operation, backward, seed)]


def test_there_are_twenty_faults_and_each_is_named_once():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) == 20
    assert {mutant.operation for mutant in MUTANTS} == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_correct_pass_passes(operation):
    assert set(verdicts(operation, OPERATIONS[operation].backward)) == {"PASS"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_fault_fails(mutant):
    assert set(verdicts(mutant.operation, mutant.backward)) == {"FAIL"}


def test_every_fault_gets_a_word_and_the_helpful_ones_are_counted():
    """The count is printed (pytest -s): how many hints name the cause, how many mislead."""
    counted = {"named": 0, "misled": 0}
    for mutant in MUTANTS:
        results = check(mutant.operation, mutant.backward, 0)
        said = [array.hint for result in results for array in result.arrays if array.hint]
        said += [found.remark for result in results for found in result.checks if found.verdict == "FAIL"]
        assert said, mutant.name
        text = "\n".join(said)
        named = re.search(mutant.hint, text, re.IGNORECASE)
        misled = re.search(mutant.misleading, text, re.IGNORECASE)
        counted["named"] += named is not None
        counted["misled"] += misled is not None
        print(f"\n{mutant.name}: {'named' if named else 'not named'}{', misled' if misled else ''}")
        print("".join(f"    {line}\n" for line in said), end="")
    print(f"\nof {len(MUTANTS)} hints, {counted['named']} name the cause, {counted['misled']} mislead")
