"""Building the graph that a node expands into."""

from graphflow.spi import current


def is_link(value):
    """Whether a JSON value is a link: [id, number of the output]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
        and not isinstance(value[1], bool)
    )


class Node:
    """A node of a graph that is being built."""

    def __init__(self, id, class_type, inputs):
        self.id, self.class_type, self.inputs = id, class_type, inputs
        self.override_display_id = None

    def out(self, index):
        return [self.id, index]

    def set_input(self, key, value):
        if value is None:
            self.inputs.pop(key, None)
        else:
            self.inputs[key] = value

    def get_input(self, key):
        return self.inputs.get(key)

    def set_override_display_id(self, override_display_id):
        self.override_display_id = override_display_id

    def serialize(self):
        found = {"class_type": self.class_type, "inputs": self.inputs}
        if self.override_display_id is not None:
            found["override_display_id"] = self.override_display_id
        return found


class GraphBuilder:
    """Collects nodes; their ids begin with those of the node that is running, so they are unique in the run."""

    def __init__(self, prefix=None):
        self.prefix = self.alloc_prefix() if prefix is None else prefix
        self.nodes = {}
        self._next = 1

    @classmethod
    def alloc_prefix(cls, root=None, call_index=None, graph_index=None):
        call = current()
        if call is not None:
            root = call.context.node_id if root is None else root
            call_index = call.context.call if call_index is None else call_index
            if graph_index is None:
                graph_index = call.graphs
                call.graphs += 1
        return f"{root or 0}.{call_index or 0}.{graph_index or 0}."

    def node(self, class_type, id=None, **kwargs):
        if id is None:
            id = str(self._next)
            self._next += 1
        id = self.prefix + id
        if id not in self.nodes:
            self.nodes[id] = Node(id, class_type, kwargs)
        return self.nodes[id]

    def lookup_node(self, id):
        return self.nodes.get(self.prefix + id)

    def finalize(self):
        return {id: node.serialize() for id, node in self.nodes.items()}

    def replace_node_output(self, node_id, index, new_value):
        """Links to this output get the new value, or are removed where that is None."""
        full = self.prefix + node_id
        for node in self.nodes.values():
            for key, value in list(node.inputs.items()):
                if is_link(value) and value[0] == full and value[1] == index:
                    node.set_input(key, new_value)

    def remove_node(self, id):
        self.nodes.pop(self.prefix + id, None)


def add_graph_prefix(graph, outputs, prefix):
    """(graph, outputs) with the prefix before every id of the graph."""
    renamed = {}
    for id, node in graph.items():
        inputs = {
            key: [prefix + value[0], value[1]] if is_link(value) else value for key, value in node["inputs"].items()
        }
        renamed[prefix + id] = {**node, "inputs": inputs}
    linked = tuple([prefix + value[0], value[1]] if is_link(value) else value for value in outputs)
    return renamed, linked
