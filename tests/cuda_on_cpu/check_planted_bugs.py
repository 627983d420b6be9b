"""`make test-planted`: the ops' tests find every bug of planted_bugs.py."""

import pytest

from tests.cuda_on_cpu.build import build, cuda_sources, needs_compiler
from tests.cuda_on_cpu.ops_tests import PASSED, found_a_bug, run_ops_tests
from tests.cuda_on_cpu.planted_bugs import BUGS, Bug

pytestmark = needs_compiler


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.file}: {bug.old} -> {bug.new}")
def test_the_bug_is_found(bug: Bug):
    done = run_ops_tests(*bug.tests, emulated=build(bug.plant(cuda_sources())))
    assert found_a_bug(done), done.stdout


def test_without_a_bug_the_tests_pass():
    done = run_ops_tests(emulated=build(cuda_sources()))
    assert done.returncode == PASSED, done.stdout
