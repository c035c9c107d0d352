"""`{public-names}`: the names that `qwenlong_trl` itself exports, each with a link to where it is described."""

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

import qwenlong_trl


class PublicNames(SphinxDirective):
    def run(self):
        lines = []
        for name in qwenlong_trl.__all__:
            if name == "__version__":
                continue
            module = f"qwenlong_trl.{qwenlong_trl._MODULE_OF[name]}"
            lines += [f".. py:data:: qwenlong_trl.{name}", "   :no-typesetting:", ""]
            lines += [f"- :py:obj:`{name} <{module}.{name}>`, of ``{module}``", ""]
        return self.parse_text_to_nodes(StringList(lines, source="public-names"))


def setup(app):
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
