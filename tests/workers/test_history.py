"""The history of runs: when a model is trusted to be quick."""

from tensorhub.workers.history import DISTRUST, QUICK_NS, QUICK_PER_REQUEST_NS, SLOW_NS, STRIKES, TRIAL_RUNS, RunHistory


def _trusted() -> RunHistory:
    history = RunHistory()
    for _ in range(TRIAL_RUNS - 1):
        history.observe(QUICK_NS)
        assert not history.quick
    history.observe(QUICK_NS)
    assert history.quick
    return history


def test_a_model_is_trusted_after_quick_runs_and_distrusted_after_a_slow_one() -> None:
    history = _trusted()
    history.observe(SLOW_NS)
    for _ in range(DISTRUST - 1):
        history.observe(0)
        assert not history.quick
    history.observe(0)
    assert history.quick


def test_runs_that_are_somewhat_slow_cost_trust_only_together() -> None:
    history = _trusted()
    for _ in range(STRIKES * 3):
        history.observe(QUICK_NS + 1)
        assert history.quick
        for _ in range(100):
            history.observe(0)
    for _ in range(STRIKES - 1):
        history.observe(QUICK_NS + 1)
        assert history.quick
    history.observe(QUICK_NS + 1)
    assert not history.quick


def test_a_large_batch_may_take_longer() -> None:
    history = RunHistory()
    for _ in range(TRIAL_RUNS):
        history.observe(QUICK_NS + QUICK_PER_REQUEST_NS, 2)
    assert history.quick


def test_slow_runs_do_not_let_trust_build_up() -> None:
    history = RunHistory()
    for _ in range(TRIAL_RUNS * 2):
        history.observe(QUICK_NS * 2)
        history.observe(0)
    assert not history.quick
