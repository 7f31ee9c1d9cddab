"""Text in, prediction out: the one path that the command line, the service, and evaluation share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from cachetools import LRUCache

from model.bundle import ENCODER, SHIPPED, TOKENIZER, Bundle, BundleError
from model.explain import deciding_stretch
from model.policy import OPT_OUT, Action, Due, decide, undecided
from model.rules import RuleHit
from model.scorer import Scored, Scorer, probabilities
from model.text import MAX_CHARACTERS, Normalised, normalise

CACHED_TEXTS = 20_000
CACHED_LENGTH = 40  # characters; longer texts hardly repeat


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one message says and what to do about it.

    `spans` has [i, j) of the text as it was typed for each label found; `span` is that of the label that decided.
    """

    labels: tuple[str, ...]
    scores: dict[str, float]
    action: Action
    queue: str | None
    priority: int | None
    due: Due | None
    scope: str | None
    reason: str
    span: tuple[int, int]
    spans: dict[str, tuple[int, int]]
    hit: RuleHit | None

    @property
    def resumes(self) -> bool:
        """The person asks to receive messages again (START, 恢复订阅)."""
        return self.hit is not None and self.hit.effect == "resume"

    def row(self) -> dict[str, Any]:
        """Return the JSON form, as `tingxin classify` writes it."""
        return {
            "labels": list(self.labels),
            "scores": {name: round(p, 4) for name, p in self.scores.items()},
            "action": self.action,
            "queue": self.queue,
            "priority": self.priority,
            "due": None if self.due is None else str(self.due),
            "scope": self.scope,
            "reason": self.reason,
            "span": list(self.span),
            "spans": {name: list(span) for name, span in self.spans.items()},
        }


class TextTooLong(ValueError):
    """A text is longer than any reply; it is refused rather than silently cut."""


class Classifier:
    """A bundle at work. Repeated short texts are answered from a cache; may be shared by threads."""

    def __init__(self, bundle: Bundle, scorer: Scorer | None) -> None:
        self.bundle = bundle
        self._scorer = scorer
        names = bundle.schema.names
        self._temperatures = np.array([bundle.calibration.temperatures[n] for n in names])
        self._biases = np.array([bundle.calibration.biases[n] for n in names])
        self._cache: LRUCache[str, Prediction] = LRUCache(CACHED_TEXTS)
        self._lock = Lock()

    @classmethod
    def load(cls, path: Path = SHIPPED, threads: int = 0) -> "Classifier":
        """Verify and load a bundle; raise BundleError with the file and the remedy. `threads` 0: all cores."""
        bundle = Bundle.load(path)
        max_length = int(bundle.manifest["provenance"]["max_length"])
        try:
            scorer = Scorer(path / ENCODER, path / TOKENIZER, max_length, threads)
        except (
            Exception
        ) as error:  # onnxruntime and tokenizers raise classes of their own, some bare Exception
            raise BundleError(
                f"{path}: the encoder does not load ({error}); restore the bundle"
            ) from error
        return cls(bundle, scorer)

    @classmethod
    def load_keywords(cls, path: Path = SHIPPED) -> "Classifier":
        """Load a bundle whose encoder is broken: keywords are still honoured, all else goes to a person."""
        return cls(Bundle.load(path, without={ENCODER, TOKENIZER}), None)

    @property
    def reads_free_text(self) -> bool:
        """False where only keyword rules work, because the encoder did not load."""
        return self._scorer is not None

    def classify(self, texts: Sequence[str]) -> list[Prediction]:
        """Return a prediction for each text, in order; raise TextTooLong before anything is scored."""
        for number, text in enumerate(texts, start=1):
            if len(text) > MAX_CHARACTERS:
                raise TextTooLong(
                    f"text {number} has {len(text)} characters; at most {MAX_CHARACTERS} are read"
                )
        with self._lock:
            known = {text: self._cache[text] for text in set(texts) if text in self._cache}
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        predictions = dict(zip(fresh, self._read(fresh), strict=True))
        with self._lock:
            self._cache.update({t: p for t, p in predictions.items() if len(t) <= CACHED_LENGTH})
        known |= predictions
        return [known[text] for text in texts]

    def forget(self) -> None:
        """Drop the cache, so that the next call's answers depend on its own texts alone.

        The int8 encoder scales each batch by its largest values: a text's scores move a little with the
        texts beside it. Who needs the same answer from any process asks with the same texts, and no past.
        """
        with self._lock:
            self._cache.clear()

    def _read(self, texts: Sequence[str]) -> list[Prediction]:
        normalised = [normalise(text) for text in texts]
        readable = [k for k, n in enumerate(normalised) if n.text]
        scored: dict[int, Scored] = {}
        if self._scorer is not None:
            answers = self._scorer.score([normalised[k].text for k in readable])
            scored = dict(zip(readable, answers, strict=True))
        return [
            self._predict(text, n, scored.get(k))
            for k, (text, n) in enumerate(zip(texts, normalised, strict=True))
        ]

    def _predict(self, text: str, normalised: Normalised, scored: Scored | None) -> Prediction:
        names = self.bundle.schema.names
        values = [0.0] * len(names)
        if scored is not None:
            values = probabilities(scored.logits, self._temperatures, self._biases).tolist()
        scores = dict(zip(names, values, strict=True))
        hit = self.bundle.rules.match(text)
        if hit is None and scored is None and normalised.text:
            decision = undecided(self.bundle.policy)
        else:
            decision = decide(scores, hit, self.bundle.calibration.thresholds, self.bundle.policy)
        spans = {
            name: self._span(name, normalised, scored, hit if name == OPT_OUT else None)
            for name in decision.labels
        }
        deciding = spans.get(decision.label or "")
        return Prediction(
            labels=decision.labels,
            scores=scores,
            action=decision.action,
            queue=decision.queue,
            priority=decision.priority,
            due=decision.due,
            scope=decision.scope,
            reason=decision.reason,
            span=deciding or self._span(decision.label, normalised, scored, hit),
            spans=spans,
            hit=hit,
        )

    def _span(
        self, label: str | None, normalised: Normalised, scored: Scored | None, hit: RuleHit | None
    ) -> tuple[int, int]:
        """Return the stretch that speaks for a label; a keyword is all of the message."""
        if hit is not None:
            return normalised.span(0, len(normalised.text))
        if label is None or scored is None:
            return (0, 0)
        column = self.bundle.schema.index(label)
        return normalised.span(*deciding_stretch(scored.contributions[:, column], scored.places))
