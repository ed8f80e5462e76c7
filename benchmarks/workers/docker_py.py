"""docker-py: one exec in a running container, output collected."""

import docker
from work import arguments, serve

given = arguments()
container = docker.DockerClient(base_url=given["url"], timeout=600).containers.get(given["container"])


def work() -> None:
    code, _ = container.exec_run(given["argv"], demux=True)
    if code != 0:
        raise SystemExit(f"exit code {code}")


serve(work)
