"""Words as something to compare tracks with, where a model understands words."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from embeddings.errors import EmbedderUnavailable, TextNotReady
from embeddings.models import EmbeddingSpace
from embeddings.search.comparing import Probe, as_text, probe
from embeddings.search.deadline import Deadline
from embeddings.search.reasons import short_label
from embeddings.search.text import clean_prompt, text_vector
from navembed_site.errors import NavembedError

logger = logging.getLogger(__name__)

RESERVE_SECONDS = 2.5  # of the answer's time, for everything but the texts
SHORTEST_WAIT = 0.2
LAST_MOMENT = 1.0  # before the answer's end; from then on no text is read
MOST_PROMPTS = 20


class Reader:
    """Embeds the prompts of one query. Once the text model is not there in time, it is not asked again."""

    def __init__(self, deadline: Deadline, warnings: list[str]) -> None:
        self.deadline = deadline
        self.warnings = warnings
        self._is_away = False

    def probes(self, space: EmbeddingSpace, prompts: Iterable[str]) -> list[Probe]:
        """Return the prompts that the space's model can embed in time; of the others the warnings tell why."""
        different = list(dict.fromkeys(prompts))
        if len(different) > MOST_PROMPTS:
            self.warnings.append(f"Only the first {MOST_PROMPTS} texts count.")
        found = [self._probe(space, prompt) for prompt in different[:MOST_PROMPTS]]
        return [each for each in found if each]

    def _is_late(self) -> bool:
        if not self._is_away and self.deadline.left < LAST_MOMENT:
            self._is_away = True
            self.warnings.append("Some texts do not count: there was no time to read them all.")
        return self._is_away

    def _probe(self, space: EmbeddingSpace, prompt: str) -> Probe | None:
        if self._is_late():
            return None
        wait = max(SHORTEST_WAIT, self.deadline.left - RESERVE_SECONDS)
        try:
            text = clean_prompt(prompt)
            vector = text_vector(space.model, text, wait_seconds=wait)
        except (TextNotReady, EmbedderUnavailable) as error:
            self._is_away = True
            logger.warning("An answer does without texts: %s", error)
            why = "they are being prepared" if isinstance(error, TextNotReady) else "they cannot be read now"
            self.warnings.append(f"The answer does without texts: {why}. Try again in a minute.")
            return None
        except (NavembedError, ValueError) as error:
            logger.warning("A text does not count: %s", error)
            can_read = isinstance(error, ValueError)
            name = short_label(space.model)
            self.warnings.append("An empty text does not count." if can_read else f"{name} cannot search by words yet.")
            return None
        if vector.shape != (space.dimension,):
            logger.warning("A text does not count for %s: its vectors are of other weights", space.model)
            self.warnings.append(f"{short_label(space.model)} cannot search by words now.")
            return None
        found = probe(vector, prompt=text)
        return as_text(found) if found else None
