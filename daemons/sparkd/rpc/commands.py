"""What the core wants of a worker, as the message that says so."""

from __future__ import annotations

from ..core import effects as fx
from ..core.values import Epoch
from . import messages as msg

Command = fx.AcceptWorker | fx.AckJournal | fx.LaunchDriver | fx.LaunchExecutor | fx.EndProcess | fx.ForgetApplication


def command(effect: Command, epoch: Epoch) -> msg.FromMaster:
    """Return the message, in the name of this epoch's leader."""
    match effect:
        case fx.AcceptWorker():
            return msg.Accepted(epoch, effect.drop, effect.acknowledged)
        case fx.AckJournal():
            return msg.Ack(epoch, effect.seq)
        case fx.LaunchDriver():
            return msg.LaunchDriver(epoch, effect.ref, effect.description)
        case fx.LaunchExecutor():
            return msg.LaunchExecutor(epoch, effect.ref, effect.profile_id, effect.cores, effect.memory_mb, effect.description)
        case fx.EndProcess():
            return msg.End(epoch, effect.ref, effect.why)
        case fx.ForgetApplication():
            return msg.ForgetApplication(epoch, effect.app_id)
