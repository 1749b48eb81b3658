"""Metrics of a model's own: a counter, a gauge and a histogram on the server's metrics page."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        # A family must live as long as its metrics.
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self.families = [
            pb_utils.MetricFamily("example_texts", "Texts that were measured", pb_utils.MetricFamily.COUNTER),
            pb_utils.MetricFamily("example_longest", "Bytes of the longest text", pb_utils.MetricFamily.GAUGE),
            pb_utils.MetricFamily("example_lengths", "Bytes of the texts", pb_utils.MetricFamily.HISTOGRAM),
        ]
        texts, longest, lengths = self.families
        self.texts = texts.Metric(labels=labels)
        self.longest = longest.Metric(labels=labels)
        self.lengths = lengths.Metric(labels=labels, buckets=[1.0, 10.0, 100.0])

    def execute(self, requests):
        responses = []
        for request in requests:
            lengths = [len(text) for text in pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()]
            self.texts.increment(len(lengths))
            self.longest.set(max([self.longest.value(), *lengths]))
            for length in lengths:
                self.lengths.observe(length)
            tensor = pb_utils.Tensor("LENGTH", np.array(lengths, dtype=np.int32))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
