"""Experience on its way in: parts of episodes -> joiner -> replay and journal -> acknowledgements.

    Trajectory, EpisodeRecord ──▶ Intake ──▶ Learner.add
                                    ▼ ▲
                                  Journal ──▶ acknowledge(part)

Nothing acknowledged is lost. An acknowledgement says one of three things: the episode is in the
journal; as many newer episodes have been joined as the journal holds, so that it would have left it
by now; or nothing can be made of the part, which is counted. Whatever is not acknowledged is sent
again (runtime/net/delivery.py), and what comes twice is acknowledged twice and used once.

A learner that continues fills its replay from the journal. Episodes that the checkpoint has counted
have had their updates, or are among those that it says are owed; the others, joined since, are
counted and owe theirs as if they had just arrived.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from configs.schema import LearnerConfig
from learner.experience.episode import Dimensions, Episode, EpisodeJoiner, Part, senders_of
from learner.experience.journal import Journal
from learner.learner import Learner
from runtime.net import wire

logger = logging.getLogger(__name__)

_JOURNAL_RETRY_S = 5.0
"""Seconds between attempts to write episodes to a journal that has refused one."""


class Intake:
    """Joins the parts of episodes, and keeps whole ones in replay and journal."""

    def __init__(
        self,
        learner: Learner,
        config: LearnerConfig,
        dimensions: Dimensions,
        folder: Path,
        acknowledge: Callable[[Part], None],
        *,
        resume: bool,
    ) -> None:
        """Take in episodes for a learner.

        Args:
            folder: of the journal.
            acknowledge: tells the sender of a part that it need not send it again.
            resume: fill the replay from the journal. The learner has its checkpoint by now.
        """
        self._learner = learner
        self._acknowledge = acknowledge
        self._joiner = EpisodeJoiner(dimensions)
        self._unsaved: dict[int, tuple[int, Episode]] = {}
        """Ordinal and episode by number: joined, and not in the journal as they should be."""
        self._journal_failures = 0
        self._journal_at = 0.0
        """Clock reading from which the journal may be tried again."""
        if resume:
            # All that is there, also where this life keeps less or replays less: it was
            # acknowledged.
            self._restore(Journal(folder, sys.maxsize), dimensions)
            if not learner.is_on_policy:
                self._warn_of_few(config.learning_starts)
        self._journal = Journal(folder, min(config.journal_episodes, config.replay_episodes))
        if not resume:
            self._journal.clear()

    def _restore(self, journal: Journal, dimensions: Dimensions) -> None:
        learner = self._learner
        counted = learner.progress.episodes
        for ordinal, episode in journal.load(dimensions):
            self._joiner.close(episode.number)
            if ordinal <= counted:
                learner.replay.remember(episode)
            else:
                learner.add(episode)
                learner.progress.episodes = ordinal
        logger.info(
            "%d episodes came back from the journal, %d updates are owed",
            len(learner.replay),
            learner.updates_owed,
        )

    def _warn_of_few(self, wanted: int) -> None:
        found = len(self._learner.replay)
        if found < min(wanted, self._learner.progress.episodes):
            logger.warning(
                "learner.learning_starts asks for %d episodes and %d came back from the journal: "
                "no updates until %d more have been played; a learner.journal_episodes of %d keeps "
                "enough",
                wanted, found, wanted - found, wanted,
            )  # fmt: skip

    def trim(self) -> None:
        """What the journal keeps no longer is in the replay, and a checkpoint has counted it."""
        self._journal.trim()

    def take(self, packet: wire.Trajectory | wire.EpisodeRecord, now_s: float) -> bool:
        """Take in a part of an episode; whether it was of any use."""
        refused = self._joiner.dropped_packets.total()
        episode = self._joiner.add(packet)
        if episode is not None:
            self._learner.add(episode)
            self._unsaved[episode.number] = self._learner.progress.episodes, episode
            self._write_journal(now_s)
        self._release()
        return self._joiner.dropped_packets.total() == refused

    def turn(self, now_s: float) -> None:
        """Give up what has waited for its other parts for too long, and try the journal again."""
        self._joiner.expire(now_s)
        self._release()
        self._write_journal(now_s)

    def training_ends(self) -> None:
        """Episodes that were cut off when training ended will not become whole."""
        self._joiner.abandon()
        self._release()

    @property
    def awaits_parts(self) -> bool:
        """Whether an episode that has been played to its end lacks somebody's part."""
        return self._joiner.awaits_parts

    @property
    def given_up(self) -> int:
        """Episodes that did not become whole."""
        return self._joiner.dropped_episodes.total()

    def figures(self) -> dict[str, float]:
        return {
            "episodes_dropped": self.given_up,
            "episodes_pending": len(self._joiner),
            "episodes_unsaved": len(self._unsaved),
            "journal_episodes": len(self._journal),
            "journal_failures": self._journal_failures,
            "dropped_packets": self._joiner.dropped_packets.total(),
        }

    def close(self) -> None:
        for reason, count in self._joiner.dropped_episodes.items():
            logger.warning("%d episodes were dropped: %s", count, reason)

    def _write_journal(self, now_s: float) -> None:
        """Make episodes safe in the order in which they were joined, and say so."""
        # Whatever as many newer ones have overtaken as the journal holds would have left it by now.
        while len(self._unsaved) > self._journal.capacity:
            _, episode = self._unsaved.pop(next(iter(self._unsaved)))
            self._acknowledge_all(senders_of(episode))
        while self._unsaved and now_s >= self._journal_at:
            number, (ordinal, episode) = next(iter(self._unsaved.items()))
            try:
                self._journal.append(ordinal, episode)
            except OSError as error:
                self._journal_failures += 1
                self._journal_at = now_s + _JOURNAL_RETRY_S
                logger.warning(
                    "%d episodes are not in the journal and not acknowledged: %s",
                    len(self._unsaved),
                    error,
                )
                return
            del self._unsaved[number]
            self._acknowledge_all(senders_of(episode))

    def _release(self) -> None:
        """Say of what nothing is made: to its senders, and of pieces to the learner."""
        for piece, steps in self._joiner.lost_pieces:
            self._learner.lost(piece, steps)
        self._joiner.lost_pieces.clear()
        released = self._joiner.take_released()
        self._acknowledge_all([part for part in released if part.episode not in self._unsaved])

    def _acknowledge_all(self, parts: list[Part]) -> None:
        for part in parts:
            self._acknowledge(part)
