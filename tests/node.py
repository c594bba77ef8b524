"""What runs in a node of `network.Network`: its first process, which starts commands there, and the agent that asks it to.

Design:
(a) ``python node.py serve FOLDER NAME`` is pid 1 of the node: the kernel ends all that runs there when it ends.
(b) ``python node.py agent FOLDER HOST COMMAND...`` is to mpiexec what ssh is: a login's environment rather than ours, a shell
    that reads the command once more, our own streams, and the command's exit code. A namespace of processes can be entered
    from outside alone, so the agent of one node asks the first process of the other, over a socket in the folder.
(c) It runs without site-packages, as ``python -I -S``.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys

LOGIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "USER": "root", "SHELL": "/bin/sh"}
MS_BIND = 4096
REQUEST = 1 << 20  # bytes at most


def main() -> int:
    kind, folder, *rest = sys.argv[1:]
    os.chdir(folder)  # the path of a socket may have 107 characters
    return agent(*rest) if kind == "agent" else serve(*rest)


def agent(*words: str) -> int:
    """Run a command on a host as ``ssh [-x] HOST COMMAND...`` would."""
    host, *command = words[1:] if words[0] == "-x" else words
    with open("hosts") as file:
        hosts = dict(line.split() for line in file)
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(hosts.get(host, host))
        except FileNotFoundError:
            print(f"agent: no host {host!r}", file=sys.stderr)
            return 255
        socket.send_fds(server, [json.dumps(" ".join(command)).encode() + b"\n"], [0, 1, 2])
        return int(server.makefile().readline() or 255)


def serve(name: str) -> int:
    """Make this process' namespaces a host of that name, and answer agents until it is killed."""
    socket.sethostname(name)
    for own in ("/dev/shm", "temporary"):
        mount(b"tmpfs", os.path.abspath(own).encode(), b"tmpfs")
    if os.path.exists("hosts"):
        mount(os.path.abspath("hosts").encode(), b"/etc/hosts", None, MS_BIND)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing that ends here stays a zombie
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                server.close()
                answer(connection)
                os._exit(0)
            connection.close()


def answer(connection: socket.socket) -> None:
    data, streams, _, _ = socket.recv_fds(connection, REQUEST, 3)
    while data and not data.endswith(b"\n"):
        data += connection.recv(REQUEST)
    if not data:  # somebody looked whether we are up
        return
    shell = ["/bin/sh", "-c", json.loads(data)]
    stdin, stdout, stderr = streams
    with subprocess.Popen(shell, stdin=stdin, stdout=stdout, stderr=stderr, env=LOGIN, cwd="/root", start_new_session=True) as child:
        for stream in (0, 1, 2, *streams):  # who reads shall see the end when the command's own copies are closed
            os.close(stream)
        code = child.wait()
    try:
        connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())
    except BrokenPipeError:  # the agent was killed; as with ssh, the command was not
        return


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target.decode()}")


if __name__ == "__main__":
    sys.exit(main())
