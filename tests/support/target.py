"""A target program: obeys commands on its standard input, one JSON list a line, and answers each."""

import base64
import ctypes
import json
import os
import sys

from support import libc


def main() -> None:
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        sys.stdout.write(json.dumps(_obey(name, arguments)) + "\n")
        sys.stdout.flush()


def _obey(name: str, arguments: list[object]) -> object:
    if name == "store":
        data = base64.b64decode(arguments[1])
        ctypes.memmove(arguments[0], data, len(data))
        return None
    if name == "load":
        return base64.b64encode(ctypes.string_at(arguments[0], arguments[1])).decode()
    if name == "file":
        fd = os.memfd_create("target")
        os.write(fd, b"f" * arguments[0])
        return fd
    positional, named = arguments
    return getattr(libc, name)(*positional, **named)


if __name__ == "__main__":
    main()
