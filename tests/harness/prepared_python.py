"""Modules run as programs, each in a process of its own that has imported torch already.

A fresh interpreter spends four seconds on torch and transformers before a script begins. Here they
are imported once, by a server that forks; what a script itself imports is imported as ever.
"""

import os
import runpy
import sys
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.harness.programs import ROOT

_PREPARED: Final = ("torch", "transformers", "transformers.models.llama.modeling_llama")
_CONTEXT: Final = get_context("forkserver")


def run_prepared(module: str, *arguments: str, timeout_s: float) -> str:
    """Run `python -m module arguments…`; return what it prints, once it has ended well."""
    _CONTEXT.set_forkserver_preload(list(_PREPARED))
    with TemporaryDirectory() as directory:
        outputs = (Path(directory, "stdout"), Path(directory, "stderr"))
        process = _CONTEXT.Process(target=_run, args=(module, arguments, outputs))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
        stdout, stderr = (path.read_text() for path in outputs)
    assert process.exitcode == 0, stderr
    return stdout


def _run(module: str, arguments: tuple[str, ...], outputs: tuple[Path, Path]) -> None:
    for stream, path in zip((sys.stdout, sys.stderr), outputs, strict=True):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(ROOT)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
