"""`web_enabled=False` does not keep the web server off: the worker command sets it to True unless it is given `--without-web`.

It then listens on 0.0.0.0:6066. Wanted: the command changes the setting only when the option is given.
"""

from common import make_app, tell
from faust.cli.worker import worker


def check() -> None:
    """What the command makes of the app's own setting."""
    app = make_app("127.0.0.1:9", web_enabled=False)
    command = worker.__new__(worker)
    command.app = app
    defaults = {parameter.name: parameter.default for parameter in worker.as_click_command().params if parameter.name}
    command._init_worker_options(
        **{name: defaults.get(name) for name in ("with_web", "web_port", "web_bind", "web_host", "web_transport")}
    )
    tell(bool(app.conf.web_enabled), f"web_enabled=False became {app.conf.web_enabled}")


if __name__ == "__main__":
    check()
