"""tools/release on a small repository of its own: what it does, and what it refuses and why."""
import datetime
import pathlib
import subprocess
import sys

import pytest

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "release"
MESON = "project('x', 'c',\n    version: '0.1.0',\n    meson_version: '>=1.3.0',\n)\nd = dependency('uv', version: '>=1.44')\n"
CHANGELOG = "# Changelog\n\n## 0.2.0 (not released)\n\n- a thing\n\n## 0.1.0 (2026-01-01)\n\n- the first\n"


@pytest.fixture
def repo(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "config", "user.name", "t")
    git(tmp_path, "config", "user.email", "t@example.org")
    (tmp_path / "meson.build").write_text(MESON)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "tag", "v0.1.0")
    return tmp_path


def git(repo, *words):
    return subprocess.run(["git", *words], cwd=repo, check=True, capture_output=True, text=True).stdout.strip()


def commit(repo, **texts):
    for name, text in texts.items():
        (repo / {"meson": "meson.build", "changelog": "CHANGELOG.md"}[name]).write_text(text)
    git(repo, "commit", "-q", "-a", "-m", "change")


def release(repo, *words):
    return subprocess.run([sys.executable, TOOL, *words], cwd=repo, capture_output=True, text=True, check=False)


def refused(repo, reason, *words):
    before = git(repo, "rev-parse", "HEAD"), git(repo, "tag"), git(repo, "status", "--porcelain")
    done = release(repo, *(words or ("0.2.0",)))
    assert done.returncode == 1 and reason in done.stderr, done.stderr
    assert before == (git(repo, "rev-parse", "HEAD"), git(repo, "tag"), git(repo, "status", "--porcelain"))


def test_a_release(repo):
    (repo / "sub").mkdir()
    assert release(repo, "0.2.0", "--dry-run").returncode == 0
    assert git(repo, "tag") == "v0.1.0"
    done = release(repo / "sub", "0.2.0")
    assert done.returncode == 0, done.stderr
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    assert f"## 0.2.0 ({today})" in (repo / "CHANGELOG.md").read_text()
    assert (repo / "meson.build").read_text() == MESON.replace("0.1.0", "0.2.0")
    assert git(repo, "log", "-1", "--format=%s") == "release: 0.2.0"
    assert git(repo, "rev-parse", "v0.2.0^{}") == git(repo, "rev-parse", "HEAD")
    assert git(repo, "status", "--porcelain") == ""
    refused(repo, "tag v0.2.0 is there already")


def test_candidates_come_before_the_release(repo):
    commit(repo, changelog=CHANGELOG.replace("0.2.0", "0.2.0-rc1"))
    assert release(repo, "0.2.0-rc1").returncode == 0
    text = (repo / "CHANGELOG.md").read_text()
    commit(repo, changelog=text.replace("# Changelog\n", "# Changelog\n\n## 0.2.0 (not released)\n\n- more\n"))
    assert release(repo, "0.2.0").returncode == 0


@pytest.mark.parametrize("version", ["1", "v0.2.0", "0.2", "0.2.0.0", "00.2.0", "0.2.0-", "0.2.0-RC", "0.2.0;x", ""])
def test_odd_versions(repo, version):
    refused(repo, "is no version", version)


def test_a_tree_that_is_not_clean(repo):
    (repo / "new.c").write_text("x")
    refused(repo, "not clean")


def test_another_branch(repo):
    git(repo, "checkout", "-q", "-b", "side")
    refused(repo, "releases are made on main")


def test_versions_go_up(repo):
    git(repo, "tag", "v0.3.0")
    refused(repo, "does not come after v0.3.0")
    git(repo, "tag", "-d", "v0.3.0")
    commit(repo, meson=MESON.replace("0.1.0", "0.9.0"))
    refused(repo, "comes before 0.9.0")


def test_the_changelog_must_be_ready(repo):
    refused(repo, 'should be "## 0.3.0 (not released)"', "0.3.0")
    commit(repo, changelog=CHANGELOG.replace("- a thing\n", ""))
    refused(repo, "says nothing")
    commit(repo, changelog="# Changelog\n")
    refused(repo, "there is none")


def test_one_place_for_the_version(repo):
    commit(repo, meson=MESON.replace("    version: '0.1.0',\n", ""))
    refused(repo, "0 times")


def test_this_repository_has_one_place():
    """No source or page repeats the version, so that nothing is forgotten."""
    root = TOOL.parent.parent
    import re
    version = re.search(r"^    version: '([^']+)'", (root / "meson.build").read_text(), re.MULTILINE).group(1)
    named = subprocess.run(["git", "grep", "-lF", version, "--", "src", "include", "tools", "Makefile", "README.md"], cwd=root,
                           capture_output=True, text=True, check=False).stdout.split()
    assert named == []
