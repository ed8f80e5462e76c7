"""Tools install into the machine's home without a network, and what they install is on the PATH.

Time budget: 30 s.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import zipfile

import pytest

from gitmachine_local import _sandbox

pytestmark = pytest.mark.requires("sandbox")


def wheel():
    """Return the bytes of a wheel with one module and one command."""
    info = "gm_demo-1.0.dist-info"
    files = {
        "gm_demo.py": "def main():\n    print('from pip')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: gm-demo\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngm-demo = gm_demo:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def package():
    """Return the bytes of an npm package with one command."""
    manifest = {"name": "gm-node-demo", "version": "1.0.0", "bin": {"gm-node-demo": "cli.js"}}
    files = {"package.json": json.dumps(manifest), "cli.js": "#!/usr/bin/env node\nconsole.log('from npm')\n"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size, member.mode = len(text), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def skip_or_fail(reason):
    if os.environ.get("GITMACHINE_REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


async def test_pip_installs_for_the_user_and_its_command_is_found(sandbox, helpers):
    python = str(_sandbox.interpreter().executable)
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True, timeout=60, check=False).returncode != 0:
        skip_or_fail(f"{python} has no pip")
    await sandbox.write_file("gm_demo-1.0-py3-none-any.whl", wheel())
    install = f"{python} -m pip install --user --no-index ./gm_demo-1.0-py3-none-any.whl"
    result = await helpers.sh(sandbox, f"{install} && gm-demo && command -v gm-demo", timeout=110)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("from pip\n/home/user/.local/bin/gm-demo\n")
    assert "WARNING" not in result.stderr


@pytest.mark.requires("npm")
async def test_npm_installs_globally_and_its_command_is_found(sandbox, helpers):
    if not (await helpers.sh(sandbox, "command -v npm && command -v node")).ok:
        skip_or_fail("npm is not in /usr or /opt, where sandboxes see it")
    await sandbox.write_file("demo.tgz", package())
    script = "npm install -g --offline --no-audit --no-fund ./demo.tgz >&2 && gm-node-demo && command -v gm-node-demo"
    result = await helpers.sh(sandbox, script, timeout=110)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "from npm\n/home/user/.local/bin/gm-node-demo\n"


async def test_git_works_with_nothing_set_up(sandbox, helpers):
    script = (
        "git init -q r && cd r && echo 1 > f && git add f && "
        "git -c user.name=A -c user.email=a@b commit -qm one && git log --format=%s && git status --short"
    )
    result = await helpers.sh(sandbox, script, timeout=60)
    assert (result.exit_code, result.stdout) == (0, "one\n"), result.stderr


async def test_names_of_users_and_hosts_resolve_and_certificates_are_there(sandbox, helpers):
    result = await helpers.sh(sandbox, "whoami; echo ~; getent hosts localhost | wc -l; cat /proc/sys/kernel/hostname")
    assert result.stdout == "user\n/home/user\n1\ngitmachine\n"
