"""What is needed to repeat a result."""

from __future__ import annotations

import subprocess

from lga_fast import provenance


def test_the_commit_says_whether_anything_that_counts_has_changed(tmp_path, monkeypatch):
    def git(*command):
        who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        done = subprocess.run(["git", "-C", tmp_path, *who, *command], capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    code, result = tmp_path / "lga_fast" / "provenance.py", tmp_path / "results" / "a.json"
    monkeypatch.setattr(provenance, "__file__", str(code))
    assert provenance.commit() is None
    for file in (code, result):
        file.parent.mkdir()
        file.write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    name = git("rev-parse", "HEAD")[:12]
    (tmp_path / "untracked").touch()
    assert provenance.commit() == name
    result.write_text("2")
    assert provenance.commit() == f"{name}-dirty"
    assert provenance.commit(apart_from=["results"]) == name
    code.write_text("2")
    assert provenance.commit(apart_from=["results"]) == f"{name}-dirty"


def test_where_git_cannot_tell_the_environment_does(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "lga_fast" / "provenance.py"))
    monkeypatch.setenv("LGA_FAST_COMMIT", "0123abc")
    assert provenance.commit() == "0123abc"  # a copy without .git
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() == "0123abc"  # git is not installed
    monkeypatch.delenv("LGA_FAST_COMMIT")
    assert provenance.commit() is None


def test_git_is_asked_once_for_a_process(monkeypatch):
    asked = []
    monkeypatch.setattr(provenance, "commit", lambda: asked.append(1) or "0123456789ab")
    provenance.commit_at_start.cache_clear()
    try:
        found = [provenance.environment()["commit"] for _ in range(3)]
    finally:
        provenance.commit_at_start.cache_clear()
    assert found == ["0123456789ab"] * 3 and len(asked) == 1
