"""Run the service's commands without the `tingxin` script: `python -m serving serve`."""

from serving.cli import app

if __name__ == "__main__":
    app()
