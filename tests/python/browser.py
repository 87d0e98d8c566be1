"""The page in headless Chromium.

    ROSTRO_CHROMIUM, ROSTRO_CHROMEDRIVER  the browser and its driver, where they are not on PATH

Screenshots are saved in target/screenshots/.
"""

import os
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

SCREENSHOTS = Path(__file__).resolve().parents[2] / "target/screenshots"
ANSWER_SECONDS = 20
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1360,1000",
]  # fmt: skip


class Page:
    """The page in a browser, through its visible elements."""

    def __init__(self, browser):
        self.browser = browser

    def find(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def press(self, selector):
        self.find(selector).click()

    def text(self, selector):
        return self.find(selector).text

    def choose(self, selector, *files):
        self.find(selector).send_keys("\n".join(map(str, files)))

    def names(self):
        return [element.text for element in self.browser.find_elements(By.CSS_SELECTOR, "#people b")]

    def until(self, condition, failure):
        """Waits for a condition. Ignores errors, because every frame replaces the list."""
        wait = WebDriverWait(self.browser, ANSWER_SECONDS, poll_frequency=0.05, ignored_exceptions=[WebDriverException])
        return wait.until(lambda _: condition(), message=f"{failure}; the page says: {self.text('body')}")

    def until_names(self, *names):
        self.until(lambda: self.names() == list(names), f"not shown: {names}")

    def until_text(self, selector):
        return self.until(lambda: self.text(selector), f"{selector} stays empty")

    def fits(self):
        return self.browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")

    def screenshot(self, name, selector=None):
        """Saves a picture of the window, or of an element."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = str(SCREENSHOTS / f"{name}.png")
        if selector is None:
            self.browser.save_screenshot(path)
        else:
            self.find(selector).screenshot(path)


def program(variable, *names):
    found = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(f"{names[0]} is missing: install Debian's packages chromium and chromium-driver, or set {variable}", pytrace=False)
    return found


def start_browser(profile, flags, preferences):
    """Starts a browser with an empty profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("ROSTRO_CHROMIUM", "chromium", "chromium-browser", "google-chrome")
    for flag in [*FLAGS, f"--user-data-dir={profile}", *flags]:
        options.add_argument(flag)
    options.add_experimental_option("prefs", preferences or {})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(program("ROSTRO_CHROMEDRIVER", "chromedriver")))
