"""The `tingxin` command: mounts what model, training and serving offer, as far as it is installed."""

import importlib.util

import typer

from model import batch as batch_cli
from model import cli as model_cli

app = typer.Typer(
    name="tingxin",
    help="听信:读懂回复,停止打扰。/ Understands replies, stops messages.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(model_cli.classify)
app.command()(batch_cli.batch)

if importlib.util.find_spec("uvicorn"):  # the `serve` extra
    from serving import cli as serving_cli

    serving_cli.mount(app)

if importlib.util.find_spec("torch"):  # the `train` extra
    from training import cli as training_cli

    app.command()(training_cli.train)
    app.command()(training_cli.evaluate)
    app.command()(training_cli.pretrain)
    app.add_typer(training_cli.data_app, name="data")


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
