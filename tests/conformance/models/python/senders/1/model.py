import numpy as np
import triton_python_backend_utils as pb_utils


def _response(value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([value], dtype=np.int32))])


def _said(action):
    """Return the text of what an action raises, as the error of a response."""
    try:
        action()
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(text))
    return _response(-1)


class TritonPythonModel:
    """Answers through a response sender, in the way that MODE names; not decoupled."""

    def execute(self, requests):
        request = requests[0]
        mode = pb_utils.get_input_tensor_by_name(request, "MODE").as_numpy()[0].decode()
        return getattr(self, f"_{mode}")(request, request.get_response_sender())

    def _together(self, request, sender):
        sender.send(_response(1), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return [None]

    def _keywords(self, request, sender):
        sender.send(response=_response(2), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return [None]

    def _apart(self, request, sender):
        sender.send(_response(3))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return [None]

    def _none_for_the_list(self, request, sender):
        sender.send(_response(4), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _sender_unused(self, request, sender):
        return [_response(5)]

    def _sent_and_returned(self, request, sender):
        sender.send(_response(6), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return [_response(-6)]

    def _error(self, request, sender):
        error = pb_utils.TritonError("by the sender", pb_utils.TritonError.NOT_FOUND)
        sender.send(pb_utils.InferenceResponse(error=error), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return [None]

    def _closed(self, request, sender):
        sender.send(_response(9), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        try:
            sender.send(_response(10))
        except pb_utils.TritonModelException as error:
            self.said = str(error)
        return [None]

    def _what_closed_said(self, request, sender):
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError(self.said))]

    def _final_without_response(self, request, sender):
        return [_said(lambda: sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL))]

    def _nothing(self, request, sender):
        return [_said(sender.send)]

    def _unknown_flag(self, request, sender):
        return [_said(lambda: sender.send(_response(0), 7))]

    def _not_cancelled(self, request, sender):
        return [_response(int(sender.is_cancelled()) + int(request.is_cancelled()))]

    def _same_sender(self, request, sender):
        return [_response(int(request.get_response_sender() is sender))]

    def _other_output(self, request, sender):
        tensor = pb_utils.Tensor("OTHER", np.array([1], dtype=np.int32))
        sender.send(pb_utils.InferenceResponse([tensor]), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return [None]
