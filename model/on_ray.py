"""Chunks of texts to predictions by Ray Data, on this machine's cores or a cluster's; in order.

Only texts and predictions pass through Ray: rows stay where they are, and are written by whoever asked.
"""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.archives import chunks
from model.bundle import Bundle

# An actor works in one thread and asks for half a core: with whole ones, two actors on two cores leave
# none to the task that reads, and nothing ever begins.
ACTOR_CORES = 0.5
BLOCK = 128 * 1024  # bytes; about one chunk of texts: it is by blocks that actors share the work
STORE = 512 * 2**20  # bytes of shared memory, where Ray is started here; the rest spills to disk


class NoRay(RuntimeError):
    """Ray is not installed. The message says what to install."""


class _Classifying:
    """What each actor holds: a classifier of its own."""

    def __init__(self, bundle: str) -> None:
        from model.classifier import Classifier

        self._classifier = Classifier.load(Path(bundle), threads=1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        found = []
        for texts in batch["texts"]:
            self._classifier.forget()
            rows = [p.row() for p in self._classifier.classify(json.loads(texts))]
            found.append(json.dumps(rows))
        return {"found": found}


def predictions(
    path: Path, bundle: Path, text: str | None, encoding: str
) -> Iterator[list[dict[str, Any]]]:
    """Return for each chunk of an archive, one by one, the predictions of its readable texts.

    The cluster is the one that RAY_ADDRESS names; without it, Ray is started here. Its nodes read the
    archive and the bundle by the same paths. Raises NoRay, and BundleError before anything is started.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine
        import ray
        from ray.data import ActorPoolStrategy, DataContext
    except ImportError:
        raise NoRay("pip install 'tingxin[batch]'") from None
    Bundle.load(bundle)
    if not ray.is_initialized():
        own: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"object_store_memory": STORE}
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False, **own)
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.target_max_block_size = BLOCK
    context.enable_progress_bars = False
    place, held = str(path.resolve()), str(bundle.resolve())

    def read(batch: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        for source in batch["path"]:
            for chunk in chunks(Path(str(source)), text, encoding):
                yield {"texts": [json.dumps(chunk.texts)]}

    resources: Any = ray.cluster_resources  # untyped
    actors = max(1, int(resources().get("CPU", 1)))
    found = (
        ray.data.from_items([{"path": place}])
        .map_batches(read, batch_size=1)
        .map_batches(
            _Classifying,
            fn_constructor_args=(held,),
            batch_size=1,
            num_cpus=ACTOR_CORES,
            compute=ActorPoolStrategy(min_size=1, max_size=actors),
        )
    )
    return (json.loads(row["found"]) for row in found.iter_rows())
