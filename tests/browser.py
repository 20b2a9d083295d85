"""Debian's Chromium without a screen, on the pages of MLflow's UI."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
PAGE_TIMEOUT_S = 90
# What MLflow shows to a newcomer over its own pages.
_SEEN = {"mlflow.assistant.panelOpen_v1": "false", "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true"}


class Browser:
    """A window on one server.

    Args:
        driver: of Selenium.
        server: address, without a slash at its end.
    """

    def __init__(self, driver: Any, server: str) -> None:
        self.driver = driver
        self._server = server
        driver.get(f"{server}/health")
        for name, value in _SEEN.items():
            driver.execute_script("localStorage.setItem(arguments[0], arguments[1])", name, value)

    def open(self, page: str) -> None:
        """A page by the part of its address behind `#`."""
        # From a blank page: another address of the same page would keep what the old one has loaded.
        self.driver.get("about:blank")
        self.driver.get(f"{self._server}/{page}")

    def until(self, holds: Callable[[], Any]) -> Any:
        """Wait until something holds, and give it."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.wait import WebDriverWait

        wait = WebDriverWait(self.driver, PAGE_TIMEOUT_S, 0.2, [StaleElementReferenceException])
        return wait.until(lambda _: holds())

    def until_shown(self, *texts: str) -> str:
        """Wait until the page shows all texts, and give all that it shows."""
        try:
            return str(self.until(lambda: (shown := self.text()) and all(text in shown for text in texts) and shown))
        except Exception as problem:
            raise AssertionError(f"not shown: {[text for text in texts if text not in self.text()]}") from problem

    def text(self) -> str:
        """All that the page shows."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def click(self, text: str) -> None:
        """Click what shows a text."""
        self.driver.find_element("xpath", f"//*[normalize-space(text())='{text}']").click()

    def n_curves(self, metric: str) -> int:
        """Groups of runs whose curve of a metric is drawn; bands around curves have no metric."""
        script = """
        const drawn = [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot.data || []);
        const curves = drawn.filter(curve => curve.metricKey == arguments[0] && curve.y.length > 1);
        return new Set(curves.map(curve => curve.uuid)).size;"""
        return int(self.driver.execute_script(script, metric))

    def keep(self, path: Path) -> None:
        """Keep a picture of the window."""
        path.parent.mkdir(parents=True, exist_ok=True)
        assert self.driver.save_screenshot(str(path))


@contextmanager
def chromium(server: str) -> Iterator[Browser]:
    """A window; a test that opens one is skipped where Chromium or Selenium is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip(f"no {CHROMIUM} or {DRIVER} (Debian packages: chromium, chromium-driver)")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    with tempfile.TemporaryDirectory(prefix="prism-ray-browser-", ignore_cleanup_errors=True) as profile:
        flags = ["headless=new", "disable-gpu", "disable-dev-shm-usage", "no-proxy-server", "window-size=1400,1000"]
        if os.geteuid() == 0:
            flags.append("no-sandbox")  # the sandbox refuses root
        for flag in (*flags, f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        try:
            yield Browser(driver, server)
        finally:
            driver.quit()
