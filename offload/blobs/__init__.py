"""Files by their SHA-256, and which file names are safe: the face of this room."""

from offload.blobs.files import Blobs
from offload.blobs.hold import Hold
from offload.blobs.incoming import Incoming
from offload.blobs.names import check_name, check_path, safe_name
from offload.blobs.shares import Shared, Shares

__all__ = ["Blobs", "Hold", "Incoming", "Shared", "Shares", "check_name", "check_path", "safe_name"]
