"""Which request runs next, with which others, on which instance. Pure: requests and the time in, decisions out.

`port` says what a scheduler is, and `choice` picks one by the model's config. One policy a module:

    default     each request alone, first come first served
    dynamic     requests gathered into batches, with priorities and timeouts (`queue_policy`, `grouping`)
    sequence    requests of one sequence in order on one instance (`direct`, `oldest`, `controls`, `states`)
"""
