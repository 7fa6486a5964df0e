"""How long a leader may call itself one. Pure: the caller reads the clock.

A lease counts from the moment at which its renewal was *sent*, on CLOCK_BOOTTIME, which goes on while a process or a machine is paused.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Part of the negotiated session that a lease lasts. A ZooKeeper follower tells its leader of live sessions with its replies to pings,
#: every tickTime/2, and a forwarded write does not touch the session there (LearnerHandler): a session may end tickTime/2 sooner than its
#: whole length after a write. tickTime is half a session at most (minSessionTimeout), so three quarters are always safe.
LEASE_SHARE = 0.75
#: A leader renews this often, as a part of the session.
RENEWAL_SHARE = 0.1
#: A renewal that takes longer than this part of the session means a server that is gone: another one is tried.
PATIENCE_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Lease:
    """until: CLOCK_BOOTTIME in s."""

    until: float = float("-inf")

    def renewed(self, sent: float, session_s: float) -> Lease:
        """Return the lease after a quorum write sent at `sent` was answered. An older renewal never shortens it."""
        return Lease(max(self.until, sent + LEASE_SHARE * session_s))

    def left(self, now: float) -> float:
        """Seconds left; 0.0 when it is over."""
        return max(0.0, self.until - now)


NO_LEASE = Lease()
