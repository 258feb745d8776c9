"""Words as something to compare tracks with, where a model understands words."""

from __future__ import annotations

from collections.abc import Iterable

from embeddings.errors import EmbedderUnavailable, NavembedError, TextNotReady
from embeddings.models import EmbeddingSpace
from embeddings.search.comparing import Probe, as_text, probe
from embeddings.search.deadline import Deadline
from embeddings.search.text import clean_prompt, text_vector

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

    def _probe(self, space: EmbeddingSpace, prompt: str) -> Probe | None:
        if self._is_away:
            return None
        if self.deadline.left < LAST_MOMENT:
            self._is_away = True
            self.warnings.append("Some texts do not count: there was no time to read them all.")
            return None
        wait = max(SHORTEST_WAIT, self.deadline.left - RESERVE_SECONDS)
        try:
            text = clean_prompt(prompt)
            vector = text_vector(space.model, text, wait_seconds=wait)
        except (TextNotReady, EmbedderUnavailable) as error:
            self._is_away = True
            self.warnings.append(f"The answer does without texts: {error}.")
            return None
        except (NavembedError, ValueError) as error:
            self.warnings.append(f"A text does not count: {error}.")
            return None
        if vector.shape != (space.dimension,):
            self.warnings.append(f"A text does not count for {space.model}: its vectors are of other weights.")
            return None
        found = probe(vector, prompt=text)
        return as_text(found) if found else None
