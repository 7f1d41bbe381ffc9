"""Writes a model for token classification in the form that Hugging Face exports: BERT's graph, of any size.

    python make.py                       # the small model of the tests, into the folder of this file
    python make.py --layers 6 --hidden 384 --heads 12 --words 30522 --positions 512 --to DIR      # MiniLM's shape
    python make.py --layers 12 --hidden 768 --heads 12 --words 30522 --positions 512 --to DIR     # BERT-base's shape

Needs onnx, onnxruntime and numpy. The weights are not learnt: a word piece of TAGGED leans to its label, and everything else is noise out of a
fixed seed. What it writes is the same on every run: the graph, `config.json`, `tokenizer.json`, and `expected.json`, the logits that onnxruntime
gives for SENTENCES.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

LABELS = ["O", "B-PATIENT", "I-PATIENT", "B-DOCTOR", "I-DOCTOR", "B-HOSPITAL", "I-HOSPITAL", "B-CITY", "I-CITY",
          "B-PROFESSION", "I-PROFESSION"]
TAGGED = {
    "zebu": "B-PATIENT", "##lon": "I-PATIENT", "quillip": "I-PATIENT", "elan": "B-PATIENT", "##bertine": "I-PATIENT",
    "ardwin": "B-DOCTOR", "mercygate": "B-HOSPITAL", "halls": "I-HOSPITAL", "oxbow": "B-CITY", "tanner": "B-PROFESSION",
}
PLAIN = ["the", "patient", "was", "seen", "by", "dr", "at", "in", "of", "and", "with", "no", "pain", "a", "is", "well", "nor"]
MARKS = list(".,;:-'()/[]")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SENTENCES = [
    "",
    "Zebulon Quillip was seen by Dr. Ardwin at Mercygate Halls in Oxbow.",
    "Élan, a tanner, is well; no pain.",
    "Norbertine and zxqvly (病院) with 17",
    "zebulon≠ardwin, Zoe\u0308 \u0308 a\u0007b",
    "in 한글 " + "x" * 101 + " a",
]


def vocabulary(size):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *MARKS, *PLAIN, *TAGGED]
    pieces += [c for c in LETTERS if c not in pieces] + ["##" + c for c in LETTERS]
    pieces += [f"word{number}" for number in range(size - len(pieces))]
    return {piece: number for number, piece in enumerate(pieces)}


class Graph:
    """Nodes and weights in the order in which they are made."""

    def __init__(self, seed):
        self.nodes, self.weights, self.random = [], [], np.random.default_rng(seed)

    def add(self, kind, *inputs, **attributes):
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"/{kind}_{name}", **attributes))
        return name

    def weight(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def number(self, value):
        return self.weight(np.float32(value))

    def whole(self, *values):
        return self.weight(np.array(values, dtype=np.int64))

    def noise(self, *shape, scale):
        return self.weight((self.random.standard_normal(shape) * scale).astype(np.float32))

    def linear(self, x, rows, columns):
        product = self.add("MatMul", x, self.noise(rows, columns, scale=0.2 / math.sqrt(rows)))
        return self.add("Add", self.noise(columns, scale=0.02), product)

    def norm(self, x, hidden):
        centred = self.add("Sub", x, self.add("ReduceMean", x, axes=[-1]))
        spread = self.add("ReduceMean", self.add("Pow", centred, self.number(2)), axes=[-1])
        scaled = self.add("Div", centred, self.add("Sqrt", self.add("Add", spread, self.number(1e-12))))
        ones = self.weight(np.ones(hidden, dtype=np.float32))
        return self.add("Add", self.add("Mul", scaled, ones), self.noise(hidden, scale=0.01))

    def dimension(self, x, axis):
        dimension = self.add("Gather", self.add("Shape", x), self.weight(np.int64(axis)), axis=0)
        return self.add("Unsqueeze", dimension, self.whole(0))

    def layer(self, x, mask, hidden, heads):
        batch, length = self.dimension(x, 0), self.dimension(x, 1)

        def split(y, order):
            shape = self.add("Concat", batch, length, self.whole(heads), self.whole(hidden // heads), axis=0)
            return self.add("Transpose", self.add("Reshape", y, shape), perm=order)

        query = split(self.linear(x, hidden, hidden), [0, 2, 1, 3])
        key = split(self.linear(x, hidden, hidden), [0, 2, 3, 1])
        value = split(self.linear(x, hidden, hidden), [0, 2, 1, 3])
        scores = self.add("Div", self.add("MatMul", query, key), self.number(math.sqrt(hidden // heads)))
        weights = self.add("Softmax", self.add("Add", scores, mask), axis=-1)
        heard = self.add("Transpose", self.add("MatMul", weights, value), perm=[0, 2, 1, 3])
        joined = self.add("Reshape", heard, self.add("Concat", batch, length, self.whole(hidden), axis=0))
        x = self.norm(self.add("Add", self.linear(joined, hidden, hidden), x), hidden)
        wide = self.linear(x, hidden, 4 * hidden)
        erf = self.add("Erf", self.add("Div", wide, self.number(math.sqrt(2))))
        gelu = self.add("Mul", self.add("Mul", wide, self.add("Add", erf, self.number(1))), self.number(0.5))
        return self.norm(self.add("Add", self.linear(gelu, 4 * hidden, hidden), x), hidden)


def model(words, layers, hidden, heads, positions):
    graph = Graph(seed=11)
    leaning = graph.random.standard_normal((len(words), hidden)) * 0.1
    for piece, number in words.items():
        leaning[number, LABELS.index(TAGGED.get(piece, "O"))] += 4
    length = graph.dimension("input_ids", 1)
    every = graph.weight(np.arange(positions, dtype=np.int64)[None, :])
    places = graph.add("Slice", every, graph.whole(0), length, graph.whole(1), graph.whole(1))
    x = graph.add("Gather", graph.weight(leaning.astype(np.float32)), "input_ids")
    x = graph.add("Add", x, graph.add("Gather", graph.noise(2, hidden, scale=0.05), "token_type_ids"))
    x = graph.norm(graph.add("Add", x, graph.add("Gather", graph.noise(positions, hidden, scale=0.05), places)), hidden)
    mask = graph.add("Unsqueeze", graph.add("Unsqueeze", "attention_mask", graph.whole(1)), graph.whole(2))
    mask = graph.add("Sub", graph.number(1), graph.add("Cast", mask, to=TensorProto.FLOAT))
    mask = graph.add("Mul", mask, graph.number(np.finfo(np.float32).min))
    for _ in range(layers):
        x = graph.layer(x, mask, hidden, heads)
    reads = graph.weight(np.eye(hidden, len(LABELS), dtype=np.float32))
    product = graph.add("MatMul", x, reads)
    last = helper.make_node("Add", [graph.noise(len(LABELS), scale=0.02), product], ["logits"], name="/classifier/Add")
    shape = ["batch_size", "sequence_length"]
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    made = helper.make_graph(
        [*graph.nodes, last],
        "main_graph",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*shape, len(LABELS)])],
        initializer=graph.weights,
    )
    made = helper.make_model(made, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def tokenizer(words):
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [{"id": words[piece], "content": piece, **plain} for piece in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]]
    return {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": words},
    }


def main():
    parser = argparse.ArgumentParser()
    for option, usual in [("layers", 1), ("hidden", 16), ("heads", 2), ("words", 0), ("positions", 32)]:
        parser.add_argument(f"--{option}", type=int, default=usual)
    parser.add_argument("--to", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    words = vocabulary(options.words)
    made = model(words, options.layers, options.hidden, options.heads, options.positions)
    options.to.mkdir(parents=True, exist_ok=True)
    onnx.save(made, options.to / "model.onnx")
    config = {
        "model_type": "bert",
        "architectures": ["BertForTokenClassification"],
        "id2label": {str(number): label for number, label in enumerate(LABELS)},
        "max_position_embeddings": options.positions,
    }
    write = lambda name, what: (options.to / name).write_text(json.dumps(what, ensure_ascii=False, indent=1) + "\n")
    write("config.json", config)
    write("tokenizer.json", tokenizer(words))
    write("expected.json", expected(options.to))


def expected(folder):
    """What the library of Hugging Face and onnxruntime make of the sentences."""
    import tokenizers

    cut = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    found = []
    for text in SENTENCES:
        encoded = cut.encode(text, add_special_tokens=False)
        ids = [cut.token_to_id("[CLS]"), *encoded.ids, cut.token_to_id("[SEP]")]
        feed = {"input_ids": [ids], "attention_mask": [[1] * len(ids)], "token_type_ids": [[0] * len(ids)]}
        feed = {name: np.array(values, dtype=np.int64) for name, values in feed.items()}
        logits = session.run(["logits"], feed)[0][0]
        found.append({"text": text, "ids": ids, "logits": [[round(float(x), 6) for x in row] for row in logits]})
    return found


if __name__ == "__main__":
    main()
