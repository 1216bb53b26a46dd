"""The process that opens strangers' files: reads requests from standard input, parses under limits, writes replies.

Started by ``pool`` as ``python -m roadbed.knowledge.parse.worker`` with an empty environment. Holds no state
between files and no secret. The invariant: file descriptor 1 carries frames only; whatever a library prints goes to
the null device.
"""

from __future__ import annotations

import gc
import os
import stat
import sys
from typing import BinaryIO

from roadbed.knowledge.parse import sandbox
from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.parse.document import SOURCE_BYTES_MAX, ParseFailure, too_large
from roadbed.knowledge.parse.framing import (
    REQUEST_BYTES_MAX,
    Failed,
    Parsed,
    Reply,
    Request,
    frame,
    read_frame,
    request_decoder,
    request_encoder,
)


def main(arguments: list[str]) -> None:
    """Serve until standard input ends.

    Arguments: parent process id, bytes of address space, CPU seconds a file, bytes a reply.
    """
    parent, memory_bytes_max, cpu_s_max, output_bytes_max = (int(argument) for argument in arguments)
    source = os.fdopen(os.dup(0), "rb")
    target = os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    os.close(quiet)
    sandbox.enter(memory_bytes_max=memory_bytes_max, parent=parent)
    serve(source, target, memory_bytes_max=memory_bytes_max, cpu_s_max=cpu_s_max, output_bytes_max=output_bytes_max)


def serve(source: BinaryIO, target: BinaryIO, *, memory_bytes_max: int, cpu_s_max: int, output_bytes_max: int) -> None:
    """Answer each request frame with one reply frame; ends after a reply marked ``is_last``."""
    while True:
        payload = read_frame(source, REQUEST_BYTES_MAX)
        if payload is None:
            return
        sandbox.allow_cpu(cpu_s_max)
        try:
            reply = answer(request_decoder.decode(payload))
            encoded = request_encoder.encode(reply)
            if len(encoded) > output_bytes_max:
                reply = Failed("too_large", f"the text is larger than {output_bytes_max >> 20} MiB", "split the file")
                encoded = request_encoder.encode(reply)
        except MemoryError:
            del payload
            gc.collect()
            # Fragments stay behind after this, so the process ends and the next file gets a fresh one.
            reply = Failed("memory", f"parser exceeded {memory_bytes_max >> 20} MB", "split the file", is_last=True)
            encoded = request_encoder.encode(reply)
        target.write(frame(encoded))
        target.flush()
        if reply.is_last:
            return


def answer(request: Request) -> Reply:
    """Parse what a request names; a failure is an answer too."""
    try:
        data = request.body if request.body is not None else read_source(request.path or "", request.name)
        return Parsed(parse_bytes(data, name=request.name, media_type=request.media_type))
    except ParseFailure as failure:
        return Failed(failure.reason, failure.message, failure.hint)


def read_source(path: str, name: str) -> bytes:
    """The bytes of a regular file within `SOURCE_BYTES_MAX`; raises `ParseFailure` (``missing``, ``too_large``)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ParseFailure("missing", f"{name} cannot be opened ({type(error).__name__})") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ParseFailure("missing", f"{name} is not a regular file")
    with open(descriptor, "rb") as file:
        if status.st_size > SOURCE_BYTES_MAX:
            raise too_large(name)
        return file.read(SOURCE_BYTES_MAX + 1)


if __name__ == "__main__":
    main(sys.argv[1:])
