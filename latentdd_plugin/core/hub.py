"""Ask once whether the Hugging Face hub answers."""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request

PROBE_SECONDS = 4.0  # until the hub counts as unreachable


def reachable(url: str, seconds: float = PROBE_SECONDS) -> bool:
    """Return whether an HTTP server answers at `url` within `seconds`, through the proxy if one is set.

    Any answer counts. It asks in a thread, because a name look-up has no time limit of its own. False if
    `HF_HUB_OFFLINE` is set.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - the hub's own address
            urllib.request.urlopen(request, timeout=seconds).close()  # noqa: S310
        except urllib.error.HTTPError as error:
            error.close()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLError):  # another certificate store may well accept it
                return
        except (OSError, ValueError):
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
