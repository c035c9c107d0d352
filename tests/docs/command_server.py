"""Runs `qwenlong-trl` and `python` for the pages' scripts in copies of one process that has imported everything once.

A shell block calls the two as it would outside; a command that trains would else import torch for ten seconds first.

```python
with CommandServer(folder) as server:
    subprocess.run(["bash", "-c", "qwenlong-trl --version"], env=server.environment)
```
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path


# Both programs: send words, folder, environment and the three streams, and end as the command ends.
_SHIM = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
about = json.dumps([{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(about).to_bytes(4, "big")], [0, 1, 2])
server.sendall(about)
raise SystemExit(int(server.makefile().readline() or 1))
"""


class CommandServer:
    """`environment` is that of this process, with the two programs first in its path."""

    def __init__(self, folder: Path):
        self.address = str(folder / "socket")
        for program in ("qwenlong-trl", "python"):
            path = folder / "bin" / program
            path.parent.mkdir(exist_ok=True)
            path.write_text(_SHIM.format(python=sys.executable, address=self.address, program=program))
            path.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}

    def __enter__(self) -> "CommandServer":
        self.process = subprocess.Popen([sys.executable, __file__, self.address], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *error) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def serve(address: str) -> None:
    import datasets  # noqa: F401
    import matplotlib.backends.backend_svg  # noqa: F401
    import peft  # noqa: F401
    import rich.table  # noqa: F401
    import trl

    import qwenlong_trl.cprs  # noqa: F401
    from qwenlong_trl import CPRSTrainer, LongSFTTrainer, PhasedGRPOTrainer, SoLoPOTrainer  # noqa: F401

    trl.ModelConfig, trl.TrlParser  # noqa: B018  lazy names
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for: each answers for itself
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    about = connection.makefile("rb").read(int.from_bytes(size, "big"))
    program, words, folder, environment = json.loads(about)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        code = _run(program, words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(f"{code or 0}\n".encode())
    os._exit(0)


def _run(program: str, words: list[str]) -> int:
    sys.argv = [program, *words]
    if program == "qwenlong-trl":
        from qwenlong_trl.cli.main import main

        return main(words)
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).resolve().parent))
    runpy.run_path(words[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
