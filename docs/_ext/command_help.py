"""`{command-help} data compose`: what `qwenlong-trl data compose --help` prints, asked when the page is built."""

from docutils import nodes
from docutils.parsers.rst import Directive
from help_text import help_of


class CommandHelp(Directive):
    required_arguments = 0
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self):
        words = self.arguments[0].split() if self.arguments else []
        text = help_of(words)
        return [nodes.literal_block(text, text, language="text")]


def setup(app):
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
