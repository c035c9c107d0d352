"""`{public-names}`: the names that `qwenlong_trl` itself exports, each with a link to where it is described."""

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

import qwenlong_trl


class PublicNames(SphinxDirective):
    def run(self):
        module_of = {name: f"qwenlong_trl.{module}" for name, module in qwenlong_trl._MODULE_OF.items()}
        lines = []
        for name in module_of:  # so that the index and searches know them under both paths
            lines += [f".. py:data:: qwenlong_trl.{name}", "   :no-typesetting:", ""]
        lines += [f"- :py:obj:`{name} <{module}.{name}>`, of ``{module}``" for name, module in module_of.items()]
        return self.parse_text_to_nodes(StringList(lines, source="public-names"))


def setup(app):
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
