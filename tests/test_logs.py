"""Where the log goes."""

import logging

import pytest

from vqdit.runs import logs

log = logging.getLogger("vqdit.test")


def test_the_log_follows_the_terminal(capsys):
    """Progress bars and tests put another stream in the place of stderr."""
    logs.to_terminal()
    for word in ("one", "two"):
        logs.to_terminal()  # once more changes nothing
        log.info(word)
        assert capsys.readouterr().err == f"{word}\n"


def test_the_file_has_times_and_tracebacks_and_the_terminal_has_neither(tmp_path, capsys):
    logs.to_terminal()
    with pytest.raises(KeyError), logs.to_file(tmp_path / "log.txt"):
        log.info("hello")
        try:
            raise KeyError("lost")
        except KeyError:
            log.exception("stopped")
            raise
    log.info("later")
    text = (tmp_path / "log.txt").read_text()
    assert "INFO hello\n" in text
    assert "ERROR stopped\nTraceback" in text and "KeyError: 'lost'" in text
    assert "later" not in text
    assert capsys.readouterr().err == "hello\nlater\n"
