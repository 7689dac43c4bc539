"""Another program's view of the LAN: Avahi, as any Linux desktop runs it."""

import os
import shutil
import subprocess
from typing import Final

from tests.lab.hosts import Host

SERVICE: Final = "_offload._tcp"
TOOLS: Final = ("avahi-browse", "avahi-daemon", "dbus-daemon")


def missing() -> str:
    """Say what is not installed of that which a ``Browser`` needs; "" if all is."""
    return ", ".join(tool for tool in TOOLS if shutil.which(tool) is None)


class Browser:
    """Avahi on ``host``, with a bus and a runtime folder of its own."""

    def __init__(self, host: Host) -> None:
        host.folder.mkdir()
        socket = host.folder / "bus"
        rules = host.folder / "bus.conf"
        rules.write_text(
            f"<busconfig><type>system</type><listen>unix:path={socket}</listen>"
            "<auth>EXTERNAL</auth><policy context='default'><allow user='*'/><allow own='*'/>"
            "<allow send_destination='*'/><allow receive_sender='*'/></policy></busconfig>"
        )
        self._host = host
        self._environment = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={socket}"}
        self._output = host.folder / "avahi.txt"
        self._spawn("dbus-daemon", f"--config-file={rules}", "--nofork", "--nopidfile")
        wait = f"while [ ! -S {socket} ]; do sleep 0.05; done"
        private = "mount -t tmpfs none /run && mkdir /run/avahi-daemon"  # its pid file, and more
        daemon = "exec avahi-daemon --no-drop-root --no-chroot --no-rlimits"
        self._spawn("unshare", "--mount", "sh", "-c", f"{wait}; {private} && {daemon}")

    def finds(self, other: Host) -> bool:
        """Say whether it shows the instance of ``other``, resolved."""
        told = subprocess.run(
            ["avahi-browse", "--resolve", "--parsable", "--terminate", SERVICE],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        lines = told.stdout.splitlines()
        return any(line.startswith("=") and other.address in line for line in lines)

    def _spawn(self, *words: str) -> None:
        self._host.spawn(words, self._environment, self._output)
