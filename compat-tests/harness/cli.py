"""The aws CLI as a user runs it: its own folder of settings, no metadata service, errors with their text."""

import os
import subprocess
import tempfile
from pathlib import Path

from .cluster import REGION


def aws_binary():
    """AWS_CLI names it; else the one of the runner's environment."""
    return os.environ.get("AWS_CLI", "aws")


class AwsCli:
    def __init__(self, endpoint, keys, settings=""):
        self.endpoint = endpoint
        self.folder = Path(tempfile.mkdtemp(prefix="ringfort-aws-"))
        config = self.folder / "config"
        # Without it version 1 of the CLI presigns by signature version 2, which S3 refuses too.
        config.write_text(f"[default]\nregion = {REGION}\ns3 =\n  addressing_style = path\n  signature_version = s3v4\n{settings}")
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RINGFORT_", "PYTHON"))},
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_CONFIG_FILE": str(config),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "none"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            "LC_ALL": "C.UTF-8",
        }

    def try_run(self, *args, timeout_seconds=300, input_bytes=None):
        argv = [aws_binary(), "--endpoint-url", self.endpoint, *args]
        return subprocess.run(argv, env=self.env, capture_output=True, timeout=timeout_seconds, input=input_bytes)

    def run(self, *args, **kwargs):
        done = self.try_run(*args, **kwargs)
        errors = done.stderr.decode("utf-8", "replace")
        assert done.returncode == 0, f"aws {' '.join(args[:4])} exited {done.returncode}: {errors[-2000:]}"
        return done.stdout.decode("utf-8")
