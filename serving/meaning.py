"""What a reply means once all is known of it: the person's words, what is not theirs, what the vendor says."""

from dataclasses import replace

from model.bundle import Bundle
from model.classifier import Prediction
from model.policy import OPT_OUT, decide
from model.rules import RuleHit
from serving.echoes import Heard
from serving.events import InboundReply


def meant(reply: InboundReply, heard: Heard, prediction: Prediction, bundle: Bundle) -> Prediction:
    """Return the prediction for a reply, given that for the person's words in it.

    Its spans are those of the reply's whole text. Where the vendor took the message for STOP or START and
    our keywords do not know it (a word of the operator's own), the vendor's word is a keyword too: it has
    acted on it, and a list of ours that says otherwise would be wrong.
    """
    if heard.subtracted:
        prediction = replace(
            prediction,
            span=heard.span(*prediction.span),
            spans={name: heard.span(*span) for name, span in prediction.spans.items()},
            reason=prediction.reason if heard.text else "只有引用的原文或自动消息,没有本人的话",
        )
    if reply.effect == "" or prediction.hit is not None:
        return prediction
    hit = RuleHit(reply.effect, f"{reply.vendor}:{reply.effect}")
    decision = decide(prediction.scores, hit, bundle.calibration.thresholds, bundle.policy)
    whole = (0, len(reply.text))
    found = {name: prediction.spans.get(name, whole) for name in decision.labels}
    return replace(
        prediction,
        labels=decision.labels,
        action=decision.action,
        queue=decision.queue,
        priority=decision.priority,
        due=decision.due,
        scope=decision.scope,
        reason=decision.reason,
        span=whole,
        spans=found | ({OPT_OUT: whole} if OPT_OUT in found else {}),
        hit=hit,
    )
