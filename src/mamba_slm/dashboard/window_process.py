"""`python -m mamba_slm.dashboard.window_process`: a window with the pages, and nothing else.

One line of JSON on stdin says what to show; the end of stdin closes the window.
"""

from __future__ import annotations

import mamba_slm.dashboard.window_library  # noqa: F401 (first: it says what to install)

# isort: split
import json
import os
import sys
from pathlib import Path
from typing import Any

from PyQt6.QtCore import QByteArray, QSocketNotifier, QUrl
from PyQt6.QtGui import QIcon
from PyQt6.QtNetwork import QNetworkCookie
from PyQt6.QtWebEngineCore import (
    QWebEngineDownloadRequest,
    QWebEnginePage,
    QWebEngineProfile,
    QWebEngineSettings,
    QWebEngineUrlRequestInfo,
    QWebEngineUrlRequestInterceptor,
)
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication

NAME = "mamba-slm"
SIZE = (1280, 860)
INNER_SCHEMES = ("blob", "data", "about", "devtools")
"""Addresses that lead to nobody else."""


def origin_of(url: QUrl) -> tuple[str, str, int]:
    """Scheme, host and port."""
    return url.scheme(), url.host(), url.port(80)


class Doorkeeper(QWebEngineUrlRequestInterceptor):
    """Lets nothing be asked of anybody but the dashboard, whatever a page says."""

    def __init__(self, home: QUrl):
        super().__init__()
        self.origin = origin_of(home)

    def interceptRequest(self, info: QWebEngineUrlRequestInfo) -> None:
        """Qt asks before each request."""
        url = info.requestUrl()
        if url.scheme() not in INNER_SCHEMES and origin_of(url) != self.origin:
            info.block(True)


class Page(QWebEnginePage):
    """Pages of the dashboard; a link elsewhere is said instead of followed."""

    def __init__(self, profile: QWebEngineProfile, home: QUrl):
        super().__init__(profile)
        self.origin = origin_of(home)

    def acceptNavigationRequest(self, url: QUrl, _type: Any, isMainFrame: bool) -> bool:
        """Whether to go there."""
        if origin_of(url) == self.origin or (url.scheme() in INNER_SCHEMES and not isMainFrame):
            return True
        if isMainFrame:
            print(f"window: it shows this dashboard only; open in a browser: {url.toString()[:200]}", flush=True)
        return False


class Window(QWebEngineView):
    """The window.

    Args:
        folder: keeps what pages keep; cookies are not among it.
    """

    def __init__(self, address: str, *, cookie: tuple[str, str], folder: Path):
        super().__init__()
        home = QUrl(address)
        self.profile_ = QWebEngineProfile(NAME, self)
        self.profile_.setPersistentStoragePath(str(folder))
        self.profile_.setCachePath(str(folder / "cache"))
        self.profile_.setPersistentCookiesPolicy(QWebEngineProfile.PersistentCookiesPolicy.NoPersistentCookies)
        self.doorkeeper = Doorkeeper(home)
        self.profile_.setUrlRequestInterceptor(self.doorkeeper)
        self.profile_.downloadRequested.connect(keep_download)
        self.page_ = Page(self.profile_, home)
        settings = self.page_.settings()
        assert settings is not None
        settings.setAttribute(QWebEngineSettings.WebAttribute.JavascriptCanAccessClipboard, True)  # the copy buttons
        self.page_.titleChanged.connect(self.setWindowTitle)
        self.setPage(self.page_)
        self.setWindowTitle(NAME)
        self.setWindowIcon(QIcon(str(Path(__file__).parent / "assets" / "icon.svg")))
        self.resize(*SIZE)
        store = self.profile_.cookieStore()
        assert store is not None
        made = QNetworkCookie(*(QByteArray(part.encode()) for part in cookie))
        made.setPath(home.path() or "/")
        made.setHttpOnly(True)
        store.cookieAdded.connect(lambda _added: self.begin(home))  # only then does the first request carry it
        store.setCookie(made, home)
        self.is_begun = False

    def begin(self, home: QUrl) -> None:
        """Load the first page, once."""
        if not self.is_begun:
            self.is_begun = True
            self.load(home)

    def closeEvent(self, event: Any) -> None:
        """The page goes before its profile, as Qt wants."""
        self.page_.deleteLater()
        super().closeEvent(event)


def keep_download(download: QWebEngineDownloadRequest) -> None:
    """What a page exports goes where the system keeps downloads."""
    download.accept()
    where = Path(download.downloadDirectory()) / download.downloadFileName()
    print(f"window: saved as {where}", flush=True)


def main() -> int:
    """Show what stdin says until the window or stdin is closed; the exit code."""
    wanted = json.loads(sys.stdin.buffer.readline())
    app = QApplication([NAME])
    app.setApplicationName(NAME)
    shown = Window(wanted["address"], cookie=tuple(wanted["cookie"]), folder=Path(wanted["folder"]))
    stdin: Any = sys.stdin.fileno()  # PyQt takes the number where its types want a pointer
    parent = QSocketNotifier(stdin, QSocketNotifier.Type.Read)
    parent.activated.connect(lambda: os.read(stdin, 1) or shown.close())
    shown.show()
    return app.exec()


if __name__ == "__main__":
    sys.exit(main())
