"""Runs the counting fold on the Faust shell: `python -m support.run_faust_counting BOOTSTRAP PREFIX [OPTIONS]`."""

from aicache.streams.runtime.contract import Step
from aicache.streams.runtime.faust_shell import FaustShell
from support.counting import Counting
from support.run_options import from_command_line


class TimedCounting(Counting):
    def tick(self, state: object, now_ms: int) -> Step:
        return Step()


if __name__ == "__main__":
    settings, keywords = from_command_line()
    web_port = keywords.pop("web_port", None)
    shell = FaustShell(TimedCounting(), settings, **keywords)
    if web_port is not None:  # the rule is taken out
        shell.app.conf.web_enabled, shell.app.conf.web_bind, shell.app.conf.web_port = True, "127.0.0.1", web_port
    shell.run()
