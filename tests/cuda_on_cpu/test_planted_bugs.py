"""The list of planted bugs is in step with the sources, and the ops' tests find one of them.

`make test-planted` plants them all (check_planted_bugs.py); the one here is soon built and found.
"""

from tests.cuda_on_cpu.build import build, cuda_sources
from tests.cuda_on_cpu.ops_tests import found_a_bug, run_ops_tests
from tests.cuda_on_cpu.planted_bugs import BUGS
from tests.cuda_on_cpu.test_cuda_kernels import pytestmark  # noqa: F401 - pytest reads it


def test_every_bug_can_be_planted():
    sources = cuda_sources()
    planted = [str(bug.plant(sources)) for bug in BUGS]
    assert len(set(planted)) == len(BUGS)


def test_a_bug_is_found():
    (bug,) = (bug for bug in BUGS if bug.new == "blockIdx.x / tiles_x")
    done = run_ops_tests("-x", *bug.tests, emulated=build(bug.plant(cuda_sources())))
    assert found_a_bug(done), done.stdout
