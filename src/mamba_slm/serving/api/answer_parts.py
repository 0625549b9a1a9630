"""An answer to a conversation as text and calls, found while it is made."""

from __future__ import annotations

from mamba_slm.serving.api.answers import finish_of, name_of
from mamba_slm.serving.api.tools.choice import ToolUse
from mamba_slm.serving.api.tools.parsing import Part, Said
from mamba_slm.serving.engine.request import Piece
from mamba_slm.text.tokenizer import Tokenizer


class AnswerParts:
    """One answer."""

    def __init__(self, tokenizer: Tokenizer, use: ToolUse | None):
        """
        Args:
            use: where the answer may call functions.
        """
        self._parser = None if use is None else use.parser()
        tags = () if use is None else (use.form.head, use.form.foot)
        names = {id: name_of(id, tokenizer) for id in tokenizer.special_ids}
        self._tags = {id: name for id, name in names.items() if name in tags}

    def push(self, piece: Piece) -> list[Part]:
        """What a token adds to the text and to calls."""
        if self._parser is None:
            return [Said(piece.text)] if piece.text else []
        parts = self._parser.push(piece.text + self._tags.get(piece.token, ""))
        return parts if piece.finish_reason is None else parts + self._parser.finish()

    def finish_of(self, piece: Piece) -> str | None:
        """OpenAI's word for how the answer ended, all of whose tokens were pushed; None while it goes on."""
        reason = finish_of(piece)
        return "tool_calls" if reason == "stop" and self._parser is not None and self._parser.num_calls else reason
