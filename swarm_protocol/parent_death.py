"""Children that die with their parent, even when that is killed with -9.

Linux can send a process a signal when its parent ends (`prctl(PR_SET_PDEATHSIG)`). The child must
ask for it itself, so a tiny Python program asks and then becomes the real one by `exec`; a
`preexec_fn` could do the same but is unsafe in a process with threads. The kernel watches the
*thread* that started the child: start children from a thread that lives as long as they should.
On other systems the command is returned unchanged.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final

# argv: the parent's pid, then the command. A parent that died before prctl is noticed by its pid.
_LAUNCHER: Final = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)\n"
    "os.getppid() == int(sys.argv[1]) or os._exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


def die_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command line that runs `command` and dies with the process that starts it.

    Args:
        command: program and arguments; the program is an absolute path.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-S", "-E", "-c", _LAUNCHER, str(os.getpid()), *command]
